//! Errors that become a reply; the connection lives on.

use std::borrow::Cow;

/// The error reply of a command, code first: `ERR ...`, `WRONGTYPE ...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandError(Cow<'static, [u8]>);

/// What a handler returns: its reply is written, or this error stands in its place.
pub type CommandResult = Result<(), CommandError>;

impl CommandError {
    /// The key holds another type than the command works on.
    pub const WRONG_TYPE: CommandError =
        Self::new("WRONGTYPE Operation against a key holding the wrong kind of value");
    /// Options that do not fit together, or are none.
    pub const SYNTAX: CommandError = Self::new("ERR syntax error");
    /// Not a 64-bit decimal integer.
    pub const NOT_AN_INTEGER: CommandError =
        Self::new("ERR value is not an integer or out of range");
    /// Not a number, or NaN.
    pub const NOT_A_FLOAT: CommandError = Self::new("ERR value is not a valid float");
    /// The key has to exist.
    pub const NO_SUCH_KEY: CommandError = Self::new("ERR no such key");

    /// A fixed text.
    #[must_use]
    pub const fn new(text: &'static str) -> CommandError {
        CommandError(Cow::Borrowed(text.as_bytes()))
    }

    /// A text made for the occasion; it may hold bytes that the client sent.
    #[must_use]
    pub fn owned(text: impl Into<Vec<u8>>) -> CommandError {
        CommandError(Cow::Owned(text.into()))
    }

    /// The text as it goes out behind the `-`.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.0
    }
}
