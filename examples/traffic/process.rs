//! Processes as /proc shows them.

use std::fs;
use std::io;

/// What is known of a process that has not been reaped.
#[derive(Clone, Copy)]
pub struct Process(pub u32);

impl Process {
    fn file(self, name: &str) -> io::Result<String> {
        fs::read_to_string(format!("/proc/{}/{name}", self.0))
    }

    /// The fields of `stat` behind the name: state, parent, ...
    fn stat(self) -> io::Result<Vec<String>> {
        let stat = self.file("stat")?;
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        Ok(fields.split(' ').map(str::to_owned).collect())
    }

    /// Its first child that runs. Looks at every process.
    ///
    /// # Errors
    /// Those of reading /proc.
    pub fn child(self) -> io::Result<Option<Process>> {
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // One that has ended meanwhile is not the child.
            let Ok(stat) = Process(pid).stat() else { continue };
            let parent = stat.get(1).and_then(|parent| parent.parse().ok());
            if parent == Some(self.0) && Process(pid).runs() {
                return Ok(Some(Process(pid)));
            }
        }
        Ok(None)
    }

    /// Whether it exists and has not ended.
    pub fn runs(self) -> bool {
        let is_running =
            |stat: Vec<String>| stat.first().is_some_and(|state| state != "Z" && state != "X");
        self.stat().is_ok_and(is_running)
    }

    /// User and system time of all its threads, those that ended included; in clock ticks.
    pub fn cpu_ticks(self) -> Option<u64> {
        let stat = self.stat().ok()?;
        Some(stat.get(11)?.parse::<u64>().ok()? + stat.get(12)?.parse::<u64>().ok()?)
    }

    /// Bytes it has handed to write(2) and its kin.
    pub fn bytes_written(self) -> Option<u64> {
        number_after(&self.file("io").ok()?, "wchar:")
    }

    /// Bytes of its memory that are resident.
    pub fn resident_bytes(self) -> Option<u64> {
        Some(number_after(&self.file("status").ok()?, "VmRSS:")? << 10)
    }

    /// Bytes that only it maps and that were written: of a forked child, what copy-on-write has
    /// cost so far. The kernel walks the whole address space for that.
    pub fn private_dirty_bytes(self) -> Option<u64> {
        Some(number_after(&self.file("smaps_rollup").ok()?, "Private_Dirty:")? << 10)
    }
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
