//! What a power cut leaves. What was synced is there; of what was not, any part, in any order, torn where a sector ends. A name that
//! was given or taken away without its folder being synced is there or not.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::{Act, Dice, Op};

/// How one image was chosen, for whoever must repeat it.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Entries of the record that had happened.
    pub at: usize,
    /// Bytes that a disk writes whole; none: whole writes survive or do not.
    pub sector: Option<usize>,
    pub seed: u64,
}

/// Files by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image(pub BTreeMap<String, Vec<u8>>);

impl Image {
    pub fn write_to(&self, folder: &Path) -> io::Result<()> {
        self.0.iter().try_for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes))
    }
}

/// A file's content, whatever it is called.
#[derive(Clone, Default)]
struct Content {
    durable: Vec<u8>,
    /// Entries of the record that are not synced.
    pending: Vec<usize>,
}

/// A name: the content it had when the folder was last synced, and what happened to it since.
#[derive(Clone, Default)]
struct Name {
    durable: Option<usize>,
    pending: Vec<Option<usize>>,
}

impl Name {
    fn now(&self) -> Option<usize> {
        self.pending.last().copied().unwrap_or(self.durable)
    }
}

/// The disk at one moment of a record. It only moves forward.
#[derive(Clone)]
pub struct Platter<'a> {
    record: &'a [Op],
    at: usize,
    contents: Vec<Content>,
    names: BTreeMap<Arc<str>, Name>,
}

impl<'a> Platter<'a> {
    #[must_use]
    pub fn new(record: &'a [Op]) -> Self {
        Self { record, at: 0, contents: Vec::new(), names: BTreeMap::new() }
    }

    /// Goes on to where `at` entries have happened.
    pub fn advance(&mut self, at: usize) {
        assert!(at >= self.at && at <= self.record.len(), "a platter only moves forward");
        while self.at < at {
            let op = &self.record[self.at];
            self.apply(self.at, op);
            self.at += 1;
        }
    }

    fn apply(&mut self, at: usize, op: &Op) {
        match &op.act {
            Act::Create => {
                self.contents.push(Content::default());
                let content = self.contents.len() - 1;
                self.names.entry(op.file.clone()).or_default().pending.push(Some(content));
            }
            Act::Remove => self.names.entry(op.file.clone()).or_default().pending.push(None),
            Act::SyncFolder => {
                for name in self.names.values_mut() {
                    name.durable = name.now();
                    name.pending.clear();
                }
            }
            Act::Write { .. } | Act::Truncate(_) => {
                let content = self.content(&op.file);
                self.contents[content].pending.push(at);
            }
            Act::Sync => {
                let content = self.content(&op.file);
                let content = &mut self.contents[content];
                for at in std::mem::take(&mut content.pending) {
                    put(&mut content.durable, &self.record[at].act);
                }
            }
            Act::Shared => {}
        }
    }

    fn content(&self, file: &str) -> usize {
        let name = self.names.get(file).and_then(Name::now);
        name.unwrap_or_else(|| panic!("{file} is written and was never created"))
    }

    /// How many writes and truncations could be lost now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.contents.iter().map(|content| content.pending.len()).sum()
    }

    /// What is there as long as the power does not go.
    #[must_use]
    pub fn all(&self) -> Image {
        let content = |content: usize| {
            let content = &self.contents[content];
            let mut bytes = content.durable.clone();
            content.pending.iter().for_each(|at| put(&mut bytes, &self.record[*at].act));
            bytes
        };
        let now = self.names.iter().filter_map(|(name, entry)| Some((name.to_string(), content(entry.now()?))));
        Image(now.collect())
    }

    /// What is there if the power goes now, chosen by the seed.
    #[must_use]
    pub fn image(&self, cut: &Cut) -> Image {
        let mut dice = Dice::new(cut.seed);
        let mut image = Image::default();
        // Chances of a piece to survive: none, few, half, most, all.
        let chance = *dice.choose(&[0, 10, 50, 90, 100]);
        for (name, entry) in &self.names {
            let step = dice.roll(entry.pending.len() + 1);
            let content = if step == 0 { entry.durable } else { entry.pending[step - 1] };
            let Some(content) = content else { continue };
            let content = &self.contents[content];
            image.0.insert(name.to_string(), self.survive(content, cut.sector, chance, &mut dice));
        }
        image
    }

    fn survive(&self, content: &Content, sector: Option<usize>, chance: usize, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = content.durable.clone();
        let mut pieces = Vec::new();
        for at in &content.pending {
            pieces.extend(split(&self.record[*at].act, sector));
        }
        let length = pieces.iter().fold(bytes.len(), |length, piece| match piece {
            Act::Write { offset, bytes } => length.max(to_usize(*offset) + bytes.len()),
            Act::Truncate(size) => to_usize(*size),
            _ => length,
        });
        pieces.retain(|_| dice.roll(100) < chance);
        if dice.once_in(2) {
            dice.shuffle(&mut pieces);
        }
        for piece in &mut pieces {
            // A sector that was being written is not readable as either.
            if let Act::Write { bytes, .. } = piece
                && dice.once_in(50)
            {
                *bytes = bytes.iter().map(|byte| byte ^ u8::try_from(dice.roll(256)).unwrap_or(0)).collect();
            }
            put(&mut bytes, piece);
        }
        // A file's length may be on disk before what is in it.
        if dice.once_in(4) && length > bytes.len() {
            bytes.resize(length, 0);
        }
        bytes
    }
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).expect("files of tests are small")
}

/// A write in the pieces that a disk writes whole.
fn split(act: &Act, sector: Option<usize>) -> Vec<Act> {
    let (Act::Write { offset, bytes }, Some(sector)) = (act, sector) else { return vec![act.clone()] };
    let (mut pieces, mut done) = (Vec::new(), 0);
    while done < bytes.len() {
        let at = to_usize(*offset) + done;
        let end = (done + sector - at % sector).min(bytes.len());
        pieces.push(Act::Write { offset: at as u64, bytes: bytes[done..end].into() });
        done = end;
    }
    pieces
}

fn put(content: &mut Vec<u8>, act: &Act) {
    match act {
        Act::Write { offset, bytes } => {
            let (start, end) = (to_usize(*offset), to_usize(*offset) + bytes.len());
            if content.len() < end {
                content.resize(end, 0);
            }
            content[start..end].copy_from_slice(bytes);
        }
        Act::Truncate(size) => content.resize(to_usize(*size), 0),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(act: Act) -> Op {
        Op { file: "f".into(), act }
    }

    fn write(offset: u64, byte: u8, length: usize) -> Op {
        op(Act::Write { offset, bytes: vec![byte; length].into() })
    }

    /// Every image of a record over many seeds, without its repetitions.
    fn images(record: &[Op], sector: Option<usize>) -> Vec<Image> {
        let mut platter = Platter::new(record);
        platter.advance(record.len());
        let mut all: Vec<Image> = Vec::new();
        for seed in 0..2_000 {
            let image = platter.image(&Cut { at: record.len(), sector, seed });
            if !all.contains(&image) {
                all.push(image);
            }
        }
        all
    }

    #[test]
    fn what_was_synced_is_there_and_the_rest_may_be() {
        let record = [op(Act::Create), op(Act::SyncFolder), write(0, 1, 2), op(Act::Sync), write(2, 2, 2)];
        let all = images(&record, None);
        assert!(all.iter().all(|image| image.0["f"].starts_with(&[1, 1])), "{all:?}");
        for content in [&[1, 1][..], &[1, 1, 2, 2], &[1, 1, 0, 0]] {
            assert!(all.iter().any(|image| image.0["f"] == content), "{content:?} in {all:?}");
        }
    }

    #[test]
    fn a_name_is_there_for_sure_only_once_its_folder_is_synced() {
        let record = [op(Act::Create), write(0, 1, 1), op(Act::Sync)];
        let all = images(&record, None);
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(all.contains(&Image::default()));
        let removed = [op(Act::Create), op(Act::SyncFolder), op(Act::Remove)];
        assert_eq!(images(&removed, None).len(), 2);
    }

    #[test]
    fn writes_tear_at_sectors_of_the_file() {
        let record = [op(Act::Create), op(Act::SyncFolder), write(0, 0, 1_024), op(Act::Sync), write(500, 1, 100)];
        let all = images(&record, Some(512));
        let torn = |image: &&Image| image.0["f"][500..512] == [1; 12] && image.0["f"][512..600] == [0; 88];
        assert_eq!(all.iter().filter(torn).count(), 1);
        assert!(images(&record, Some(4_096)).iter().find(torn).is_none());
    }

    #[test]
    fn a_truncation_may_be_lost() {
        let record =
            [op(Act::Create), op(Act::SyncFolder), write(0, 1, 4), op(Act::Sync), op(Act::Truncate(0)), write(0, 2, 2)];
        let all = images(&record, None);
        for content in [&[1, 1, 1, 1][..], &[], &[2, 2], &[2, 2, 1, 1]] {
            assert!(all.iter().any(|image| image.0["f"] == content), "{content:?} in {all:?}");
        }
    }
}
