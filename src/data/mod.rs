//! Values and their encodings; no protocol, no clock.

pub mod glob;
