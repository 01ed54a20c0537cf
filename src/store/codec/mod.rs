//! Records as text.

pub mod native;
