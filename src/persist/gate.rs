//! The gate: up to which offset of the log replies may leave. Pure: offsets and times in, an offset
//! out.

use std::collections::VecDeque;

use crate::config::FsyncPolicy;
use crate::sys::clock::MonoUs;

/// The promise of `everysec`: what is older is durable, or replies wait.
pub const EVERYSEC_PROMISE_US: u64 = 1_000_000;
/// When `everysec` starts a sync: this long after the oldest un-synced byte was appended. Half the
/// promise, so that a healthy disk never holds a reply; and two small syncs a second stall write(2)
/// less than one large one.
pub const EVERYSEC_SYNC_AGE_US: u64 = 500_000;

/// What the gate looks at. Offsets are of the log: record bytes since start.
#[derive(Clone, Copy, Debug)]
pub struct GateView {
    /// The policy in force.
    pub policy: FsyncPolicy,
    /// Handed to the kernel, in every file in force.
    pub written: u64,
    /// Covered by a completed sync, in every file in force.
    pub durable: u64,
    /// When the oldest byte behind `durable` was appended, if there is one.
    pub oldest_undurable: Option<MonoUs>,
    /// The time of this turn.
    pub now: MonoUs,
    /// A sync has failed and nothing more can become durable until the log is healed.
    pub poisoned: bool,
}

/// Stricter policies that replies under way were promised before the policy changed. Only what
/// was appended before the change is bound by them, but a reply never overtakes an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floors {
    /// Replies up to this offset wait as under `always`.
    always_until: u64,
    /// Replies up to this offset wait as under `everysec`.
    everysec_until: u64,
}

impl Floors {
    /// Notes that `old` bound everything up to `appended`.
    pub fn policy_changed(&mut self, old: FsyncPolicy, appended: u64) {
        match old {
            FsyncPolicy::Always => self.always_until = appended,
            FsyncPolicy::Everysec => self.everysec_until = appended,
            FsyncPolicy::No => {}
        }
    }

    /// The offset that must become durable whatever the policy now says, because an earlier one
    /// promised it.
    #[must_use]
    pub fn promised(&self) -> u64 {
        self.always_until.max(self.everysec_until)
    }
}

/// Up to which offset replies may leave. Constant time.
#[must_use]
pub fn open_to(view: &GateView, floors: &Floors) -> u64 {
    let mut open = rule(view.policy, view);
    if view.durable < floors.always_until {
        open = open.min(rule(FsyncPolicy::Always, view));
    }
    if view.durable < floors.everysec_until {
        open = open.min(rule(FsyncPolicy::Everysec, view));
    }
    open
}

fn rule(policy: FsyncPolicy, view: &GateView) -> u64 {
    match policy {
        FsyncPolicy::Always => view.durable,
        FsyncPolicy::Everysec if view.poisoned || everysec_is_late(view) => view.durable,
        FsyncPolicy::Everysec | FsyncPolicy::No => view.written,
    }
}

/// Whether something older than the promise of `everysec` is not durable.
#[must_use]
pub fn everysec_is_late(view: &GateView) -> bool {
    view.oldest_undurable.is_some_and(|then| view.now.since(then) > EVERYSEC_PROMISE_US)
}

/// Neighbouring marks closer than this share one, with the older time: that errs on the strict side
/// by this much.
const MARK_GRAIN_US: u64 = 5_000;
/// Bounds the marks where nothing ever syncs (policy `no`, a stalled disk): beyond it the newest
/// mark takes in what follows, which again errs on the strict side.
const MAX_MARKS: usize = 1_024;

/// When the bytes that are not durable yet were appended.
#[derive(Debug, Default)]
pub struct Ages {
    /// Offsets where a stretch ends, and when its first byte was appended. Both ascend.
    marks: VecDeque<(u64, MonoUs)>,
    /// Where the log ended when last noted.
    end: u64,
}

impl Ages {
    /// For a log whose bytes up to `offset` are durable.
    #[must_use]
    pub fn from(offset: u64) -> Ages {
        Ages { marks: VecDeque::new(), end: offset }
    }

    /// Notes that the log now ends at `offset`, and that what is new was appended at `now`.
    pub fn appended(&mut self, offset: u64, now: MonoUs) {
        if offset <= self.end {
            return;
        }
        self.end = offset;
        let full = self.marks.len() >= MAX_MARKS;
        match self.marks.back_mut() {
            Some((end, then)) if full || now.since(*then) < MARK_GRAIN_US => *end = offset,
            _ => self.marks.push_back((offset, now)),
        }
    }

    /// Forgets what is durable.
    pub fn durable(&mut self, offset: u64) {
        while self.marks.front().is_some_and(|&(end, _)| end <= offset) {
            self.marks.pop_front();
        }
    }

    /// When the oldest byte that is not durable was appended.
    #[must_use]
    pub fn oldest(&self) -> Option<MonoUs> {
        self.marks.front().map(|&(_, then)| then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(policy: FsyncPolicy, age_us: Option<u64>) -> GateView {
        let now = MonoUs(10_000_000);
        let oldest_undurable = age_us.map(|age| MonoUs(now.0 - age));
        GateView { policy, written: 80, durable: 50, oldest_undurable, now, poisoned: false }
    }

    #[test]
    fn each_policy_opens_as_far_as_its_promise_allows() {
        let floors = Floors::default();
        assert_eq!(open_to(&view(FsyncPolicy::Always, Some(1)), &floors), 50);
        assert_eq!(open_to(&view(FsyncPolicy::Everysec, Some(1_000_000)), &floors), 80);
        assert_eq!(open_to(&view(FsyncPolicy::Everysec, Some(1_000_001)), &floors), 50);
        assert_eq!(open_to(&view(FsyncPolicy::Everysec, None), &floors), 80);
        assert_eq!(open_to(&view(FsyncPolicy::No, Some(9_000_000)), &floors), 80);
        let poisoned = GateView { poisoned: true, ..view(FsyncPolicy::Everysec, Some(1)) };
        assert_eq!(open_to(&poisoned, &floors), 50);
    }

    #[test]
    fn the_stricter_promise_binds_replies_under_way() {
        let mut floors = Floors::default();
        floors.policy_changed(FsyncPolicy::Always, 70);
        assert_eq!(floors.promised(), 70);
        assert_eq!(open_to(&view(FsyncPolicy::No, Some(1)), &floors), 50);
        let later = GateView { durable: 70, ..view(FsyncPolicy::No, Some(1)) };
        assert_eq!(open_to(&later, &floors), 80);

        let mut floors = Floors::default();
        floors.policy_changed(FsyncPolicy::Everysec, 70);
        assert_eq!(open_to(&view(FsyncPolicy::No, Some(1)), &floors), 80);
        assert_eq!(open_to(&view(FsyncPolicy::No, Some(1_000_001)), &floors), 50);
        // The new policy is the stricter one: it binds all, the floor adds nothing.
        assert_eq!(open_to(&view(FsyncPolicy::Always, Some(1)), &floors), 50);
    }

    #[test]
    fn ages_are_never_younger_than_the_bytes() {
        let mut ages = Ages::default();
        assert_eq!(ages.oldest(), None);
        ages.appended(10, MonoUs(0));
        ages.appended(20, MonoUs(MARK_GRAIN_US - 1));
        ages.appended(30, MonoUs(MARK_GRAIN_US));
        ages.appended(30, MonoUs(MARK_GRAIN_US * 9));
        ages.durable(10);
        assert_eq!(ages.oldest(), Some(MonoUs(0)), "byte 11 shares the first mark");
        ages.durable(20);
        assert_eq!(ages.oldest(), Some(MonoUs(MARK_GRAIN_US)));
        ages.durable(30);
        assert_eq!(ages.oldest(), None);
        for n in 0..10_000 {
            ages.appended(31 + n, MonoUs(MARK_GRAIN_US * n));
        }
        assert_eq!(ages.marks.len(), MAX_MARKS);
        ages.durable(31 + 9_998);
        assert_eq!(ages.oldest(), Some(MonoUs(MARK_GRAIN_US * (MAX_MARKS as u64 - 1))));
    }
}
