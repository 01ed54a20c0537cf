//! Everything that is tried from outside, in one binary: one link, not one a directory.

mod cli;
