//! stub
use super::Server;
use crate::persist::log::AppendLog;
#[derive(Default)]
pub(super) struct Rewriting {
    pub(super) requested: bool,
    pub(super) child_may_have_ended: bool,
}
impl Rewriting {
    pub(super) fn abandon(&mut self, _log: &mut AppendLog) {}
}
impl Server {
    pub(super) fn tend_rewrite(&mut self) {}
    pub(super) fn consider_rewrite(&mut self) {}
    pub(super) fn switch_log(&mut self, _on: bool) -> Result<(), String> {
        Ok(())
    }
    pub(super) fn refresh_log_figures(&mut self) {}
}
