//! Text and what it stands for: numbers, words of a line, glob patterns. Below every other layer.

pub mod extended;
pub mod glob;
pub mod number;
pub mod words;
