//! A pipeline's nested steps as one list, in which each says which ones it comes after.

use std::collections::BTreeSet;

use super::elements::step::{Item, Step, Wait};
use super::reader::At;
use crate::model::Expression;

/// A step and what must be over before it begins.
pub(super) struct Placed<'m> {
    pub step: Authored<'m>,
    /// Of lower index only.
    pub after: Vec<usize>,
}

#[derive(Clone, Copy)]
pub(super) enum Authored<'m> {
    Call(&'m Step),
    Wait(&'m Wait),
}

impl<'m> Authored<'m> {
    pub(super) fn name(self) -> Option<&'m At<String>> {
        match self {
            Self::Call(step) => step.name.as_ref(),
            Self::Wait(wait) => wait.name.as_ref(),
        }
    }

    pub(super) fn when(self) -> Option<&'m At<Expression>> {
        match self {
            Self::Call(step) => step.when.as_ref(),
            Self::Wait(wait) => wait.when.as_ref(),
        }
    }
}

/// In the order written.
pub(super) fn flat(items: &[Item]) -> Vec<Placed<'_>> {
    let mut list = Vec::new();
    sequence(items, Vec::new(), &mut list);
    list
}

/// Gives the steps after which comes what follows.
fn sequence<'m>(items: &'m [Item], after: Vec<usize>, list: &mut Vec<Placed<'m>>) -> Vec<usize> {
    items.iter().fold(after, |after, item| place(item, after, list))
}

fn place<'m>(item: &'m Item, after: Vec<usize>, list: &mut Vec<Placed<'m>>) -> Vec<usize> {
    let step = match item {
        Item::Call(step) => Authored::Call(step),
        Item::Wait(wait) => Authored::Wait(wait),
        Item::Sequence(items) => return sequence(&items.value, after, list),
        // An empty block is refused; what follows it comes after what was before it.
        Item::Parallel(branches) if branches.value.is_empty() => return after,
        Item::Parallel(branches) => {
            return branches.value.iter().flat_map(|branch| place(branch, after.clone(), list)).collect();
        }
    };
    list.push(Placed { step, after });
    vec![list.len() - 1]
}

/// Everything that is over before a step begins.
pub(super) fn before(list: &[Placed<'_>], step: usize) -> BTreeSet<usize> {
    let mut before = BTreeSet::new();
    let mut open = vec![step];
    while let Some(step) = open.pop() {
        let after = list.get(step).map(|placed| placed.after.as_slice()).unwrap_or_default();
        open.extend(after.iter().filter(|step| before.insert(**step)));
    }
    before
}
