//! What a program that has ended left behind.

use std::process::Output;

/// Its exit code; panics if a signal ended it.
pub fn code(output: &Output) -> i32 {
    output.status.code().expect("it left by itself")
}

/// What it wrote to its standard output.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What it wrote to its standard error.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
