//! From settings to a running program: the only file that knows every other module.

use std::error::Error;

use crate::config::Config;

/// Runs the program until it is told to stop.
///
/// # Errors
/// What kept it from starting.
pub fn run(config: Config) -> Result<(), Box<dyn Error>> {
    drop(config);
    Ok(())
}
