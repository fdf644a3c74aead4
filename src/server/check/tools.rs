//! The tools that make another log: `--salvage`, `--reseal`, `--truncate-to-time`.

use super::trial::Trial;
use super::{ToolFailure, Work, failed, print};
use crate::config::Output;
use crate::persist::check::Moment;
use crate::persist::tools::reseal::{Resealed, reseal};
use crate::persist::tools::salvage::{Lost, Salvaged, salvage};
use crate::persist::tools::truncate::{PointInTime, truncate_to_time};
use crate::persist::tools::{ToolError, replace};
use crate::sys::clock::Now;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

/// How many lost stretches are told one by one.
const TOLD_STRETCHES: usize = 20;

impl From<ToolError> for ToolFailure {
    fn from(e: ToolError) -> ToolFailure {
        ToolFailure(e.to_string())
    }
}

impl Work<'_> {
    /// Keeps what is good, and what verifies behind damage.
    pub(super) fn salvage(&self, output: Output, out: &mut dyn Write) -> Result<bool, ToolFailure> {
        let Some(report) = self.told_damage(out)? else { return Ok(true) };
        let mut trial = Trial::new(self.request);
        let salvaged =
            salvage(self.storage, self.name, &report, self.options, &mut |args| trial.run(args))?;
        drop(trial);
        self.must_read_back(&salvaged.copy, salvaged.commands)?;
        print(out, &format_args!("\n{}", ToldSalvage(&salvaged)))?;
        self.end(&salvaged.copy, output, &format!("before-salvage-{}", report.end), out)?;
        Ok(output == Output::InPlace)
    }

    /// Accepts the file as it is.
    pub(super) fn reseal(&self, output: Output, out: &mut dyn Write) -> Result<bool, ToolFailure> {
        let now_ms = u64::try_from(Now::read().unix.0).unwrap_or(0);
        let mut trial = Trial::new(self.request);
        let resealed =
            reseal(self.storage, self.name, self.options, now_ms, &mut |args| trial.judge(args))?;
        self.must_read_back(&resealed.copy, resealed.commands)?;
        print(out, &ToldReseal(&resealed))?;
        self.end(&resealed.copy, output, "before-reseal", out)?;
        Ok(true)
    }

    /// Copies what the file held at a moment.
    pub(super) fn truncate_to_time(
        &self,
        until_ms: u64,
        out: &mut dyn Write,
    ) -> Result<bool, ToolFailure> {
        let made = truncate_to_time(self.storage, self.name, self.options, until_ms)?;
        self.must_read_back(&made.copy, made.commands)?;
        let PointInTime { end, left_bytes, commands, last_ms, next_ms, .. } = made;
        print(out, &format_args!("Up to {}:\n", Moment(until_ms)))?;
        print(
            out,
            &format_args!(
                "Kept: {end} bytes with {commands} commands, the last at {}. Left out: the \
                 {left_bytes} bytes behind.\n",
                Moment(last_ms)
            ),
        )?;
        if let Some(next_ms) = next_ms {
            print(out, &format_args!("The first of these at {}.\n", Moment(next_ms)))?;
        }
        self.end(&made.copy, Output::Copy, "", out)?;
        Ok(true)
    }

    /// Leaves the copy beside the file, or puts it in the file's place.
    fn end(
        &self,
        copy: &OsStr,
        output: Output,
        ending: &str,
        out: &mut dyn Write,
    ) -> Result<(), ToolFailure> {
        let (file, made) = (self.storage.path_of(self.name), self.storage.path_of(copy));
        if output == Output::Copy {
            let told =
                format!("The copy is {}. {} was not changed.\n", made.display(), file.display());
            return print(out, &told);
        }
        let stays = |e: &dyn fmt::Display| {
            let made = made.display();
            ToolFailure(format!("{e}. The copy {made} is whole; {} is as it was", file.display()))
        };
        take_owner_and_mode(&file, &made)
            .map_err(|e| stays(&failed("give the owner and mode of", &file, &e)))?;
        let kept = replace(self.storage, self.name, copy, ending).map_err(|e| stays(&e))?;
        let kept = self.storage.path_of(&kept);
        let told = format!(
            "{} was replaced. As it was before it is kept in {}.\n",
            file.display(),
            kept.display()
        );
        print(out, &told)
    }
}

/// Makes the file at `to` belong to whom the one at `from` does: the server must be able to open
/// it, and nobody else.
fn take_owner_and_mode(from: &Path, to: &Path) -> io::Result<()> {
    let (meant, is) = (fs::metadata(from)?, fs::metadata(to)?);
    if (meant.uid(), meant.gid()) != (is.uid(), is.gid()) {
        chown(to, Some(meant.uid()), Some(meant.gid()))?;
    }
    fs::set_permissions(to, meant.permissions())?;
    fs::File::open(to)?.sync_all()
}

/// What a salvage came to, for people.
struct ToldSalvage<'a>(&'a Salvaged);

impl fmt::Display for ToldSalvage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Salvaged {
            head_bytes,
            commands,
            groups_behind,
            commands_behind,
            lost,
            left_out,
            first_left_out,
            unplaced_groups,
            copy: _,
        } = self.0;
        writeln!(
            f,
            "Kept: {commands} commands: those in the {head_bytes} bytes ahead of the damage, and \
             {commands_behind} in {groups_behind} groups behind it."
        )?;
        let bytes: u64 = lost.iter().map(|Lost { range, .. }| range.end - range.start).sum();
        writeln!(f, "Lost: {bytes} bytes.")?;
        for Lost { range, promised, groups_at_least } in lost.iter().take(TOLD_STRETCHES) {
            let what = if *promised { "promised data" } else { "nothing that was promised" };
            writeln!(
                f,
                "  {} bytes from offset {} to {}: {what}; at least {groups_at_least} groups",
                range.end - range.start,
                range.start,
                range.end
            )?;
        }
        if let Some(more @ 1..) = lost.len().checked_sub(TOLD_STRETCHES) {
            writeln!(f, "  and {more} more stretches")?;
        }
        if *unplaced_groups > 0 {
            writeln!(f, "Left out: {unplaced_groups} groups whose database cannot be told.")?;
        }
        if *left_out > 0 {
            writeln!(f, "Left out: {left_out} commands that need what is lost:")?;
        }
        for command in first_left_out {
            writeln!(f, "  at offset {}: {}", command.offset, command.why.trim_end_matches(','))?;
        }
        match left_out - first_left_out.len() as u64 {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more"),
        }
    }
}

/// What a reseal came to, for people.
struct ToldReseal<'a>(&'a Resealed);

impl fmt::Display for ToldReseal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Resealed { commands, groups, dropped_lines, malformed_lines, times_unknown, .. } =
            self.0;
        writeln!(
            f,
            "Sealed: {commands} commands in {groups} groups. Dropped: {dropped_lines} old seals \
             and headers, {malformed_lines} of them not well formed."
        )?;
        if *times_unknown {
            writeln!(f, "No old seal tells a time: all of it is dated now.")?;
        }
        Ok(())
    }
}
