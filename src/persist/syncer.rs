//! The syncer: the one thread that makes groups durable, so that the loop never waits for a disk.

use std::io;
use std::sync::Arc;

use super::background::Job;
use super::storage::LogFile;

/// Which of the log's files a result is about.
pub type SinkId = u64;

/// Makes files durable. Two where a rewritten file is about to take the old one's place: what is
/// acknowledged then must be durable in whichever of them a crash leaves.
pub struct SyncJob {
    /// The files, each with its name in the log.
    pub files: Vec<(SinkId, Arc<dyn LogFile>)>,
}

impl Job for SyncJob {
    /// What came of each file. The files are given back: closing the last handle of an unlinked
    /// one frees its blocks, which can take long, and the next commit must not wait for that.
    type Done = Vec<(SinkId, Arc<dyn LogFile>, io::Result<()>)>;

    fn run(self) -> Self::Done {
        let sync = |(id, file): (SinkId, Arc<dyn LogFile>)| {
            let result = file.sync_data();
            (id, file, result)
        };
        self.files.into_iter().map(sync).collect()
    }
}
