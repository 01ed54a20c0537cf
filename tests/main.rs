//! The one integration test binary: a crate that is linked once, and a module for each part of the program.

mod store;
