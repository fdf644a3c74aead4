//! A disk that loses what was not synced, in every way that file systems do, and fails on demand.
//! Deterministic by seed.
//!
//! Each file has what the kernel shows and what the platter has. A sync copies one to the other; in
//! between, single pages reach the platter at random. After a power cut each page that was not
//! synced is old, new, or torn by sector; the length is anything between; what never arrived reads
//! as zeros. Name changes reach the platter in order, but no earlier than the directory is synced
//! unless chance wants it. A failed sync drops pages for good and leaves them looking clean. Data
//! whose length did not arrive stays on the platter behind the end, and shows when a later power cut
//! brings the length but not the data that was to stand there (ext4 does that).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

use super::storage::{FileId, Found, LogFile, Storage};

const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// SplitMix64: small, and the same everywhere.
#[derive(Clone)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What can be told to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Write,
    Sync,
    Truncate,
    Create,
    Rename,
    SyncDir,
    Link,
    Exchange,
    /// Fails reads of files, with nothing read.
    Read,
}

impl Op {
    pub const ALL: [Op; 9] = [
        Op::Write,
        Op::Sync,
        Op::Truncate,
        Op::Create,
        Op::Rename,
        Op::SyncDir,
        Op::Link,
        Op::Exchange,
        Op::Read,
    ];
}

/// Lets `count` operations of one kind fail after `skip` successful ones.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub op: Op,
    pub skip: u64,
    pub count: u64,
    pub errno: Errno,
}

#[derive(Clone, Default)]
struct Inode {
    shown: Vec<u8>,
    platter: Vec<u8>,
    /// What an earlier life has left on the platter, by its place in the file; it counts behind
    /// the platter's end.
    stale: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Clone)]
enum NameChange {
    Link(OsString, usize),
    Rename(OsString, OsString),
    Exchange(OsString, OsString),
    Remove(OsString),
}

type Names = BTreeMap<OsString, usize>;

struct State {
    rng: Rng,
    inodes: Vec<Inode>,
    shown_names: Names,
    platter_names: Names,
    pending_names: Vec<NameChange>,
    ops: u64,
    crash_at: Option<u64>,
    crashed: bool,
    faults: Vec<Fault>,
    short_writes: bool,
    free_bytes: Option<u64>,
    struck: Vec<Op>,
    read_bytes: u64,
    /// This operation, whatever it is, fails.
    fail_at: Option<(u64, Errno)>,
    /// The path does not lead to the directory any more.
    directory_gone: bool,
}

/// The disk; clones share it.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    pub fn new(seed: u64) -> SimDisk {
        SimDisk::with(Rng(seed), Vec::new(), Names::new())
    }

    fn with(rng: Rng, inodes: Vec<Inode>, names: Names) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(State {
            rng,
            inodes,
            shown_names: names.clone(),
            platter_names: names,
            pending_names: Vec::new(),
            ops: 0,
            crash_at: None,
            crashed: false,
            faults: Vec::new(),
            short_writes: false,
            free_bytes: None,
            struck: Vec::new(),
            read_bytes: 0,
            fail_at: None,
            directory_gone: false,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(self.clone())
    }

    /// The power goes in the middle of the `n`th operation from now.
    pub fn crash_after(&self, n: u64) {
        let mut state = self.state();
        state.crash_at = Some(state.ops + n);
    }

    /// The `n`th operation from now fails.
    pub fn fail_after(&self, n: u64, errno: Errno) {
        let mut state = self.state();
        state.fail_at = Some((state.ops + n, errno));
    }

    pub fn crashed(&self) -> bool {
        self.state().crashed
    }

    pub fn fail(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Operations so far, reads not counted.
    pub fn ops(&self) -> u64 {
        self.state().ops
    }

    /// How many operations of a kind were told to fail and have.
    pub fn strikes(&self, op: Op) -> u64 {
        self.state().struck.iter().filter(|&&struck| struck == op).count() as u64
    }

    pub fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.fail_at = None;
    }

    pub fn short_writes(&self) {
        self.state().short_writes = true;
    }

    /// From here on the disk says that it has so much room; `None` for it does not say.
    pub fn say_free(&self, bytes: Option<u64>) {
        self.state().free_bytes = bytes;
    }

    /// Changes one byte of a file behind everybody's back.
    pub fn rot(&self, name: &str, at: usize) {
        let mut state = self.state();
        let inode = state.shown_names[OsStr::new(name)];
        if let Some(byte) = state.inodes[inode].shown.get_mut(at) {
            *byte ^= 4;
        }
    }

    /// The disk as it is found after the power has gone now.
    pub fn after_power_cut(&self) -> SimDisk {
        let mut state = self.state();
        let mut rng = Rng(state.rng.next());
        let inodes = state.inodes.iter().map(|inode| inode.after_power_cut(&mut rng)).collect();
        let mut names = state.platter_names.clone();
        let arrived = rng.below(state.pending_names.len() as u64 + 1) as usize;
        for change in state.pending_names.iter().take(arrived) {
            change.apply(&mut names);
        }
        SimDisk::with(rng, inodes, names)
    }

    /// The disk as it is found after the process was killed: nothing is lost.
    pub fn after_kill(&self) -> SimDisk {
        let mut state = self.state();
        let rng = Rng(state.rng.next());
        let copy = SimDisk::with(rng, state.inodes.clone(), state.shown_names.clone());
        {
            let mut copied = copy.state();
            copied.platter_names = state.platter_names.clone();
            copied.pending_names = state.pending_names.clone();
        }
        copy
    }

    /// Bytes read from all files so far.
    pub fn read_bytes(&self) -> u64 {
        self.state().read_bytes
    }

    pub fn names(&self) -> Vec<OsString> {
        self.state().shown_names.keys().cloned().collect()
    }

    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let inode = *state.shown_names.get(OsStr::new(name))?;
        Some(state.inodes[inode].shown.clone())
    }

    /// Somebody else removes the name.
    pub fn meddle_remove(&self, name: &str) {
        self.remove(OsStr::new(name)).expect("not crashed");
    }

    /// Somebody else cuts the file.
    pub fn meddle_truncate(&self, name: &str, len: usize) {
        let mut state = self.state();
        let inode = state.shown_names[OsStr::new(name)];
        state.inodes[inode].shown.truncate(len);
    }

    /// Somebody else moves the directory away.
    pub fn meddle_take_directory(&self) {
        self.state().directory_gone = true;
    }

    /// Somebody puts the directory back, or with `fresh` an empty one of the same name.
    pub fn meddle_return_directory(&self, fresh: bool) {
        let mut state = self.state();
        if std::mem::take(&mut state.directory_gone) && fresh {
            state.shown_names.clear();
            state.platter_names.clear();
            state.pending_names.clear();
        }
    }

    /// Puts a file there, durable.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state();
        let inode = state.inodes.len();
        state.inodes.push(Inode {
            shown: bytes.to_vec(),
            platter: bytes.to_vec(),
            ..Inode::default()
        });
        state.shown_names.insert(name.into(), inode);
        state.platter_names.insert(name.into(), inode);
    }
}

impl State {
    /// Counts an operation; an error if it is to fail. `Ok(true)` if the power goes in its middle.
    fn begin(&mut self, op: Op) -> io::Result<bool> {
        if self.crashed {
            return Err(Errno::EIO.into());
        }
        self.ops += 1;
        if self.crash_at.is_some_and(|at| self.ops >= at) {
            self.crashed = true;
            return Ok(true);
        }
        if self.rng.one_in(4) {
            self.write_back_some();
        }
        if let Some((at, errno)) = self.fail_at
            && self.ops == at
        {
            return Err(errno.into());
        }
        if self.directory_gone && matches!(op, Op::Create | Op::Rename) {
            return Err(Errno::ENOENT.into());
        }
        self.fault(op)?;
        Ok(false)
    }

    /// An error if an operation is to fail.
    fn fault(&mut self, op: Op) -> io::Result<()> {
        for fault in self.faults.iter_mut().filter(|fault| fault.op == op) {
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if fault.count > 0 {
                fault.count -= 1;
                self.struck.push(op);
                return Err(fault.errno.into());
            }
        }
        Ok(())
    }

    fn write_back_some(&mut self) {
        let Some(index) = self.rng.next().checked_rem(self.inodes.len() as u64) else { return };
        let inode = &mut self.inodes[index as usize];
        let count = inode.dirty.len() as u64;
        if count > 0 {
            let page = inode.dirty.iter().nth(self.rng.below(count) as usize).copied();
            if let Some(page) = page {
                inode.write_back(page);
            }
        }
    }
}

impl Inode {
    fn write_back(&mut self, page: usize) {
        self.dirty.remove(&page);
        let (start, end) = (page * PAGE, ((page + 1) * PAGE).min(self.shown.len()));
        if start >= end {
            return;
        }
        self.lengthen_platter(end);
        self.platter[start..end].copy_from_slice(&self.shown[start..end]);
        // The rest of a page goes out as zeros.
        let whole_page = start..((page + 1) * PAGE).min(self.stale.len());
        if let Some(stale) = self.stale.get_mut(whole_page) {
            stale.fill(0);
        }
    }

    fn lengthen_platter(&mut self, len: usize) {
        lengthen(&mut self.platter, len, &self.stale);
    }

    fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        if self.shown.len() < end {
            self.shown.resize(end, 0);
        }
        self.shown[offset..end].copy_from_slice(bytes);
        self.dirty.extend(offset / PAGE..end.div_ceil(PAGE));
    }

    fn sync(&mut self) {
        // Only what is dirty: pages that a failed sync has dropped look clean.
        for page in std::mem::take(&mut self.dirty) {
            self.write_back(page);
        }
        self.platter.resize(self.shown.len(), 0);
    }

    /// The kernel could not write some pages, says so once, and forgets it.
    fn fail_sync(&mut self, rng: &mut Rng) {
        for page in std::mem::take(&mut self.dirty) {
            if rng.one_in(2) {
                self.write_back(page);
            }
        }
        self.platter.resize(self.shown.len(), 0);
    }

    fn after_power_cut(&self, rng: &mut Rng) -> Inode {
        let mut found = self.platter.clone();
        let (short, long) = (self.platter.len(), self.shown.len());
        let (short, long) = (short.min(long), short.max(long));
        let len = match rng.below(4) {
            0 => self.platter.len(),
            1 => self.shown.len(),
            _ => short + rng.below((long - short) as u64 + 1) as usize,
        };
        for &page in &self.dirty {
            let (start, end) = (page * PAGE, ((page + 1) * PAGE).min(self.shown.len()));
            if start >= end {
                continue;
            }
            lengthen(&mut found, end, &self.stale);
            match rng.below(3) {
                0 => {}
                1 => found[start..end].copy_from_slice(&self.shown[start..end]),
                _ => {
                    for sector in (start..end).step_by(SECTOR) {
                        let sector_end = (sector + SECTOR).min(end);
                        if rng.one_in(2) {
                            found[sector..sector_end]
                                .copy_from_slice(&self.shown[sector..sector_end]);
                        }
                    }
                }
            }
        }
        lengthen(&mut found, len, &self.stale);
        let mut stale = self.stale.clone();
        stale.resize(stale.len().max(found.len()), 0);
        stale[..found.len()].copy_from_slice(&found);
        found.truncate(len);
        Inode { shown: found.clone(), platter: found, stale, dirty: BTreeSet::new() }
    }
}

/// Makes `platter` as long as `len`, if it is shorter, of what stands behind its end.
fn lengthen(platter: &mut Vec<u8>, len: usize, stale: &[u8]) {
    if platter.len() < len {
        let left = stale.get(platter.len()..stale.len().min(len)).unwrap_or(&[]);
        platter.extend_from_slice(left);
        platter.resize(len, 0);
    }
}

impl NameChange {
    fn apply(&self, names: &mut Names) {
        match self {
            NameChange::Link(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            NameChange::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            NameChange::Exchange(a, b) => {
                if let (Some(&at_a), Some(&at_b)) = (names.get(a), names.get(b)) {
                    names.insert(a.clone(), at_b);
                    names.insert(b.clone(), at_a);
                }
            }
            NameChange::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl Storage for SimDisk {
    fn open(&self, name: &OsStr) -> io::Result<Option<Arc<dyn LogFile>>> {
        let inode = self.state().shown_names.get(name).copied();
        let file = |inode| Arc::new(SimFile { disk: self.clone(), inode }) as Arc<dyn LogFile>;
        Ok(inode.map(file))
    }

    fn create(&self, name: &OsStr) -> io::Result<Arc<dyn LogFile>> {
        let mut state = self.state();
        state.begin(Op::Create)?;
        if state.shown_names.contains_key(name) {
            return Err(Errno::EEXIST.into());
        }
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.shown_names.insert(name.into(), inode);
        state.pending_names.push(NameChange::Link(name.into(), inode));
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let mut state = self.state();
        state.begin(Op::Rename)?;
        if !state.shown_names.contains_key(from) {
            return Err(Errno::ENOENT.into());
        }
        let change = NameChange::Rename(from.into(), to.into());
        change.apply(&mut state.shown_names);
        state.pending_names.push(change);
        Ok(())
    }

    fn link(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let mut state = self.state();
        if state.begin(Op::Link)? {
            return Err(Errno::EIO.into());
        }
        let inode = *state.shown_names.get(from).ok_or(Errno::ENOENT)?;
        if state.shown_names.contains_key(to) {
            return Err(Errno::EEXIST.into());
        }
        let change = NameChange::Link(to.into(), inode);
        change.apply(&mut state.shown_names);
        state.pending_names.push(change);
        Ok(())
    }

    fn exchange(&self, a: &OsStr, b: &OsStr) -> io::Result<()> {
        let mut state = self.state();
        state.begin(Op::Exchange)?;
        if !state.shown_names.contains_key(a) || !state.shown_names.contains_key(b) {
            return Err(Errno::ENOENT.into());
        }
        let change = NameChange::Exchange(a.into(), b.into());
        change.apply(&mut state.shown_names);
        state.pending_names.push(change);
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        Ok(self.state().free_bytes)
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        let mut state = self.state();
        if state.crashed {
            return Err(Errno::EIO.into());
        }
        let change = NameChange::Remove(name.into());
        change.apply(&mut state.shown_names);
        state.pending_names.push(change);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut guard = self.state();
        let state = &mut *guard;
        let result = state.begin(Op::SyncDir);
        match result {
            Ok(false) => {
                for change in state.pending_names.drain(..) {
                    change.apply(&mut state.platter_names);
                }
                Ok(())
            }
            Ok(true) => Err(Errno::EIO.into()),
            Err(error) => {
                if !state.crashed && state.rng.one_in(2) {
                    state.pending_names.clear(); // Lost, and no later sync will say so.
                }
                Err(error)
            }
        }
    }

    fn list(&self) -> io::Result<Vec<OsString>> {
        Ok(self.names())
    }

    fn find(&self, name: &OsStr) -> io::Result<Option<Found>> {
        let state = self.state();
        if state.directory_gone {
            return Ok(None);
        }
        let found = |&inode: &usize| Found {
            id: file_id(inode),
            bytes: state.inodes[inode].shown.len() as u64,
        };
        Ok(state.shown_names.get(name).map(found))
    }

    fn reopen(&self) -> io::Result<()> {
        if self.state().directory_gone { Err(Errno::ENOENT.into()) } else { Ok(()) }
    }

    fn path_of(&self, name: &OsStr) -> PathBuf {
        PathBuf::from("/simulated").join(name)
    }
}

fn file_id(inode: usize) -> FileId {
    FileId { device: 0, inode: inode as u64 }
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl LogFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        // Reading changes nothing, so it is no place for a crash.
        state.fault(Op::Read)?;
        let shown = &state.inodes[self.inode].shown;
        let rest = shown.get(offset as usize..).unwrap_or(&[]);
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        state.read_bytes += count as u64;
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut guard = self.disk.state();
        let state = &mut *guard;
        let begun = state.begin(Op::Write);
        // A write that fails or is interrupted may have taken some bytes nevertheless.
        let part = state.rng.below(bytes.len() as u64 + 1) as usize;
        match begun {
            Ok(false) => {
                let short = state.short_writes && state.rng.one_in(3);
                let taken = if short { part.max(1) } else { bytes.len() };
                state.inodes[self.inode].write(&bytes[..taken], offset as usize);
                Ok(taken)
            }
            Ok(true) => {
                state.inodes[self.inode].write(&bytes[..part], offset as usize);
                Err(Errno::EIO.into())
            }
            Err(error) => {
                if !state.crashed {
                    state.inodes[self.inode].write(&bytes[..part], offset as usize);
                }
                Err(error)
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut guard = self.disk.state();
        let state = &mut *guard;
        let begun = state.begin(Op::Sync);
        let inode = &mut state.inodes[self.inode];
        match begun {
            Ok(false) => {
                inode.sync();
                Ok(())
            }
            Ok(true) => Err(Errno::EIO.into()),
            Err(error) => {
                if !state.crashed {
                    inode.fail_sync(&mut state.rng);
                }
                Err(error)
            }
        }
    }

    fn start_write_out(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn finish_write_out(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.begin(Op::Truncate)? {
            return Err(Errno::EIO.into());
        }
        let inode = &mut state.inodes[self.inode];
        inode.shown.resize(len as usize, 0);
        // The kernel fills the rest of the last page with zeros, and lets go of those behind it.
        inode.stale.truncate(len as usize);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.state().inodes[self.inode].shown.len() as u64)
    }

    fn id(&self) -> io::Result<FileId> {
        Ok(file_id(self.inode))
    }
}
