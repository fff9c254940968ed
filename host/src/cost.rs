//! What an event may cost, counted and never timed: allocations, steps of SQLite's machine, bytes and syncs. Such counts are the same on
//! every machine and whatever else it does, so a cost that has grown fails a test, where a clock would only have wavered.
//!
//! The budgets are in `cost.txt`. Whoever makes something cost more on purpose writes that down there, where a reviewer sees it; and who
//! makes it cost less, too, so that it stays.

use std::collections::BTreeMap;

const BUDGETS: &str = include_str!("cost.txt");
/// In per cent: so far above its budget a cost may be, for maps that grow now or a little later.
const ABOVE_MAX: f64 = 1.0;
/// And so far below, before the budget must follow.
const BELOW_MAX: f64 = 10.0;

/// Allocations that `work` makes on this thread, and what it answers.
pub(crate) fn allocations<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let mut answer = None;
    let info = allocation_counter::measure(|| answer = Some(work()));
    (info.count_total, answer.unwrap())
}

/// Fails unless each of these counts, for each of `many`, is what the budget of its name says.
#[track_caller]
pub(crate) fn hold(many: u64, counts: &[(&str, u64)]) {
    let budgets = budgets(BUDGETS);
    let each = counts.iter().map(|(name, count)| (name, *count as f64 / many as f64));
    let each = each.inspect(|(name, each)| println!("{name} {each:.2}"));
    let wrong: Vec<String> = each.filter_map(|(name, each)| check(&budgets, name, each).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A name and a number a line; `#` begins a remark.
fn budgets(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap().trim()).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (name, budget) = line.split_once(char::is_whitespace).unwrap_or_else(|| panic!("no budget: {line}"));
            (name.to_owned(), budget.trim().parse().unwrap_or_else(|e| panic!("{line}: {e}")))
        })
        .collect()
}

fn check(budgets: &BTreeMap<String, f64>, name: &str, each: f64) -> Result<(), String> {
    let change = format!("To change it, write `{name} {each:.2}` into host/src/cost.txt, and say why in the commit.");
    let Some(budget) = budgets.get(name) else {
        return Err(format!("{name} has no budget and costs {each:.2}. {change}"));
    };
    // Numbers of a few digits are written with two after the point.
    let (over, under) = (budget * (1.0 + ABOVE_MAX / 100.0) + 0.005, budget * (1.0 - BELOW_MAX / 100.0) - 0.005);
    if each > over {
        let more = each - budget;
        return Err(format!(
            "{name} costs {each:.2} for each event, {more:.2} more than its budget of {budget:.2}. {change}"
        ));
    }
    if each < under {
        return Err(format!(
            "{name} costs {each:.2} for each event, and its budget is still {budget:.2}: let it stay so low. {change}"
        ));
    }
    Ok(())
}

#[test]
fn a_cost_that_has_grown_is_told_by_how_much_and_what_to_do() {
    let budgets = budgets("# what\ncore.allocations 8.00  # why\nsync 0.01\n");
    assert_eq!(check(&budgets, "core.allocations", 8.01), Ok(()));
    let grown = check(&budgets, "core.allocations", 9.0).unwrap_err();
    assert!(
        grown.contains("1.00 more than its budget of 8.00") && grown.contains("`core.allocations 9.00`"),
        "{grown}"
    );
    assert!(check(&budgets, "core.allocations", 7.0).unwrap_err().contains("let it stay so low"));
    assert!(check(&budgets, "sync", 0.02).is_err());
    assert!(check(&budgets, "new", 1.0).unwrap_err().contains("has no budget"));
}

#[test]
fn every_allocation_is_counted() {
    let (count, boxes) = allocations(|| [Box::new(1), Box::new(2)]);
    assert_eq!((count, *boxes[1]), (2, 2));
}
