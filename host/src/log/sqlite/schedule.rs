//! In which order the writer takes what waits for it. Pure.
//!
//! A transaction of megabytes takes milliseconds, and whatever comes meanwhile waits for all of it. So small commands share a
//! transaction and go first, and a large one has a transaction of its own, which at most so many groups may pass.

use std::collections::VecDeque;

/// A command of more bytes is large.
pub(super) const LARGE_BYTES: usize = 256 << 10;
/// Groups of small commands that pass a large one, at most.
pub(super) const PASSED_MAX: u32 = 8;
/// Commands of one group, and their bytes beyond the first.
const GROUP_MAX: usize = 1_000;
const GROUP_BYTES_MAX: usize = 512 << 10;

/// What waits: within its kind, in the order in which it came.
#[derive(Debug)]
pub(super) struct Queue<T> {
    small: VecDeque<(T, usize)>,
    large: VecDeque<T>,
    /// Groups that have passed the first large one.
    passed: u32,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self { small: VecDeque::new(), large: VecDeque::new(), passed: 0 }
    }

    pub(super) fn push(&mut self, command: T, bytes: usize) {
        if bytes > LARGE_BYTES {
            self.large.push_back(command);
        } else {
            self.small.push_back((command, bytes));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.small.is_empty() && self.large.is_empty()
    }

    /// What the next transaction takes; nothing only if nothing waits.
    pub(super) fn group(&mut self) -> VecDeque<T> {
        if self.small.is_empty() || self.passed >= PASSED_MAX {
            self.passed = 0;
            if let Some(large) = self.large.pop_front() {
                return VecDeque::from([large]);
            }
        }
        self.passed += u32::from(!self.large.is_empty());
        let (mut group, mut bytes) = (VecDeque::new(), 0);
        while let Some((_, size)) = self.small.front() {
            bytes += if group.is_empty() { 0 } else { *size };
            if group.len() >= GROUP_MAX || bytes > GROUP_BYTES_MAX {
                break;
            }
            group.extend(self.small.pop_front().map(|(command, _)| command));
        }
        group
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: usize = LARGE_BYTES + 1;

    fn queue(of: &[(u32, usize)]) -> Queue<u32> {
        let mut queue = Queue::new();
        of.iter().for_each(|(command, bytes)| queue.push(*command, *bytes));
        queue
    }

    fn drained(mut queue: Queue<u32>) -> Vec<Vec<u32>> {
        std::iter::from_fn(|| Some(Vec::from(queue.group())).filter(|group| !group.is_empty())).collect()
    }

    #[test]
    fn small_ones_share_a_group_and_go_first() {
        let groups = drained(queue(&[(1, 10), (2, LARGE), (3, 0), (4, LARGE), (5, LARGE_BYTES)]));
        assert_eq!(groups, [vec![1, 3, 5], vec![2], vec![4]]);
        assert!(queue(&[]).group().is_empty());
    }

    #[test]
    fn groups_are_bounded() {
        let many: Vec<(u32, usize)> = (0..2_500).map(|n| (n, 1)).collect();
        let sizes: Vec<usize> = drained(queue(&many)).iter().map(Vec::len).collect();
        assert_eq!(sizes, [1_000, 1_000, 500]);
        let heavy: Vec<(u32, usize)> = (0..10).map(|n| (n, LARGE_BYTES)).collect();
        assert_eq!(drained(queue(&heavy)), [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7, 8], vec![9]]);
    }

    #[test]
    fn a_large_one_waits_for_a_bounded_number_of_groups() {
        let mut queue = queue(&[(1, LARGE), (2, LARGE)]);
        let mut turns = Vec::new();
        for turn in 0..3 * (PASSED_MAX + 1) {
            // There is always a small one more.
            queue.push(100, 1);
            let group = queue.group();
            if group.contains(&1) || group.contains(&2) {
                assert_eq!(group.len(), 1, "it has a transaction of its own");
                turns.push(turn);
            }
        }
        assert_eq!(turns, [PASSED_MAX, 2 * PASSED_MAX + 1]);
    }

    #[test]
    fn nothing_is_lost_and_each_kind_keeps_its_order() {
        proptest::proptest!(|(sizes in proptest::collection::vec(0..2 * LARGE_BYTES, 0..200))| {
            let all: Vec<(u32, usize)> = (0_u32..).zip(sizes.iter().copied()).collect();
            let taken: Vec<u32> = drained(queue(&all)).concat();
            let kind = |large: bool, of: &[u32]| -> Vec<u32> {
                of.iter().copied().filter(|n| (sizes[*n as usize] > LARGE_BYTES) == large).collect()
            };
            let sent: Vec<u32> = (0..).take(sizes.len()).collect();
            for large in [false, true] {
                proptest::prop_assert_eq!(kind(large, &taken), kind(large, &sent));
            }
        });
    }
}
