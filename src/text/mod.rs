//! Text and what it stands for: numbers, words of a line, glob patterns. Below every other layer.

pub mod cpu_list;
pub mod extended;
pub mod glob;
pub mod number;
pub mod words;
