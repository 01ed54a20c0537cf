//! The `coatroom` program.
fn main() {}
