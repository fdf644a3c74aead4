//! stub
#![allow(missing_docs)]
use crate::sys::clock::{MonoUs, Now};
use std::io;

pub struct AppendLog;
impl AppendLog {
    pub fn off() -> AppendLog { AppendLog }
    pub fn append(&mut self, _db: usize, _record: &[u8]) {}
    pub fn append_transaction<'a>(&mut self, _r: impl Iterator<Item = (usize, &'a [u8])>) {}
    pub fn flush(&mut self, _now: Now) {}
    pub fn open_to(&self, _now: Now) -> u64 { u64::MAX }
    pub fn appended(&self) -> u64 { 0 }
    pub fn written(&self) -> u64 { 0 }
    pub fn is_faulted(&self) -> bool { false }
    pub fn unsynced_bytes(&self) -> u64 { 0 }
    pub fn next_wakeup(&self, _now: Now) -> Option<MonoUs> { None }
    pub fn on_report(&mut self, _now: Now) {}
    pub fn cron(&mut self, _now: Now) {}
    pub fn refusal(&self) -> Option<String> { None }
    pub fn set_policy(&mut self, _p: crate::config::FsyncPolicy, _now: Now) {}
    pub fn set_seals(&mut self, _s: bool) {}
    pub fn shutdown(&mut self, _now: Now) -> io::Result<()> { Ok(()) }
}
