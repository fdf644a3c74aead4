//! stub
use super::{Server, start::StartError};
pub(super) struct Loading;
impl Server {
    pub(super) fn begin_loading(&mut self) -> Result<(), StartError> {
        log::info!("Ready to accept connections");
        Ok(())
    }
    pub(super) fn load_some(&mut self) {}
    pub(super) fn reload(&mut self) -> Result<(), String> {
        Ok(())
    }
    pub(super) fn refresh_load_figures(&mut self) {}
}
