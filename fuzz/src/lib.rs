//! What is asserted of any input, once for the fuzzer and for the ordinary tests, which replay the corpus.
//!
//! Each module has a `check` that takes bytes and panics where a property doesn't hold. The models in it are slow, and
//! know nothing of the code that they are compared with.

pub mod codec;
pub mod cookie;
pub mod directives;
pub mod exchange;
pub mod json;
pub mod names;
pub mod response;
pub mod routes;
