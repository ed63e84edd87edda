//! Tasks of one file that get in each other's way: two that write one table of one target, where each would undo the
//! other's work, and some that bring a change back to where it came from.

use std::collections::{BTreeMap, VecDeque};

use trem_engine::ports::{Finding, Severity};
use trem_engine::routes::Routes;
use trem_engine::runner::Task;
use trem_engine::schema::TableId;

use crate::config::TaskConfig;

/// What breaks a circle.
const APART: &str = "never run them at the same time (`trem run --task` picks one), exclude the tables from `tables` \
                     of one, or give one of them mode \"full-load\"";

/// A table at the source, and what it is on the target.
type Way = (TableId, TableId);

/// A task as it is looked at here.
struct Flow<'a> {
    name: &'a str,
    /// The databases, by number.
    source: usize,
    target: usize,
    /// Whether changes are followed.
    follows: bool,
    /// Whether it is among the tasks that a command is for.
    picked: bool,
    /// `None` if the source could not be asked, which its own task tells.
    ways: Option<Vec<Way>>,
}

impl<'a> Flow<'a> {
    fn of(config: &'a TaskConfig, [source, target]: [usize; 2], picked: bool) -> Self {
        Self { name: &config.plan.name, source, target, follows: config.plan.mode.follows(), picked, ways: None }
    }
}

/// For each of the picked tasks the findings against it. Sources are asked only where tasks may meet.
pub async fn overlaps(all: &[TaskConfig], picked: &[Task]) -> Vec<Vec<Finding>> {
    let mut flows = flows(all, |name| picked.iter().any(|t| t.plan.name == name));
    let near: Vec<usize> = (0..flows.len()).filter(|n| may_meet(&flows, *n)).collect();
    ask(&mut flows, all, &near).await;
    (0..flows.len()).filter(|n| flows[*n].picked).map(|n| judge(&flows, n)).collect()
}

/// What stands against running the last of these tasks beside the others, if it brings changes back to where they came
/// from. That two write one table is what the target itself refuses.
pub async fn circle_of_last(all: &[TaskConfig]) -> Option<Finding> {
    let mut flows = flows(all, |_| true);
    let last = flows.len().checked_sub(1)?;
    let near: Vec<usize> = (0..flows.len()).filter(|n| on_a_circle(&flows, *n)).collect();
    if !near.contains(&last) {
        return None;
    }
    ask(&mut flows, all, &near).await;
    circles(&flows, last).pop()
}

/// Asks sources which tables go where.
async fn ask(flows: &mut [Flow<'_>], all: &[TaskConfig], near: &[usize]) {
    for n in near {
        let config = &all[*n];
        let Some(source) = config.source.configured.source(&config.plan.name) else { continue };
        if let Ok(catalog) = source.discover(&config.plan.selection).await {
            let routes = Routes::of(&config.rules, &catalog);
            let ways = routes.all().iter().map(|r| (r.source().id.clone(), r.target().id.whole()));
            flows[*n].ways = Some(ways.collect());
        }
    }
}

fn flows(all: &[TaskConfig], picked: impl Fn(&str) -> bool) -> Vec<Flow<'_>> {
    let ends: Vec<_> = all.iter().flat_map(|c| [&c.source, &c.target]).collect();
    let number = |n: usize| ends.iter().position(|e| e.name == ends[n].name || e.same_database(ends[n])).unwrap_or(n);
    let one = |(n, config)| Flow::of(config, [number(2 * n), number(2 * n + 1)], picked(&config.plan.name));
    all.iter().enumerate().map(one).collect()
}

/// Whether a task can get in the way of another, as far as the databases tell.
fn may_meet(flows: &[Flow<'_>], n: usize) -> bool {
    let shares = |m: usize| m != n && flows[m].target == flows[n].target;
    (0..flows.len()).any(shares) || on_a_circle(flows, n)
}

/// Whether tasks lead back from its target to its source.
fn on_a_circle(flows: &[Flow<'_>], n: usize) -> bool {
    let next = |flow: &Flow<'_>, at: &usize| (flow.source == *at).then_some(flow.target);
    circle(flows, n, flows[n].target, &flows[n].source, &next).is_some()
}

/// The tasks by which one gets on from `from` until it is at `goal` again, where what `next` says of a task is where
/// that one leads; `n` itself is none of them.
fn circle<T: Clone + PartialEq>(
    flows: &[Flow<'_>],
    n: usize,
    from: T,
    goal: &T,
    next: &dyn Fn(&Flow<'_>, &T) -> Option<T>,
) -> Option<Vec<usize>> {
    let mut ahead = VecDeque::from([(from, Vec::new())]);
    while let Some((at, way)) = ahead.pop_front() {
        if at == *goal {
            return Some(way);
        }
        for m in (0..flows.len()).filter(|m| *m != n && flows[*m].follows && !way.contains(m)) {
            if let Some(further) = next(&flows[m], &at) {
                ahead.push_back((further, [way.as_slice(), &[m]].concat()));
            }
        }
    }
    None
}

fn judge(flows: &[Flow<'_>], n: usize) -> Vec<Finding> {
    let mut findings = doubled(flows, n);
    findings.extend(circles(flows, n));
    findings
}

/// Tables that another picked task writes too.
fn doubled(flows: &[Flow<'_>], n: usize) -> Vec<Finding> {
    let mut found: BTreeMap<&TableId, &str> = BTreeMap::new();
    for other in (0..flows.len()).filter(|m| *m != n).map(|m| &flows[m]) {
        if other.picked && other.target == flows[n].target {
            let theirs = |id: &TableId| other.ways.iter().flatten().any(|(_, target)| target == id);
            let both = flows[n].ways.iter().flatten().map(|(_, target)| target).filter(|id| theirs(id));
            found.extend(both.map(|id| (id, other.name)));
        }
    }
    let finding = |(id, other): (&TableId, &str)| Finding {
        severity: Severity::Error,
        subject: format!("table {id}"),
        message: format!("tasks {} and {other} both write this table of the target", flows[n].name),
        remedy: Some(format!("exclude what becomes {id} from `tables` of one of the two tasks, or rename it").into()),
    };
    found.into_iter().map(finding).collect()
}

/// Other tasks that bring changes back: refused where they would run together.
fn circles(flows: &[Flow<'_>], n: usize) -> Vec<Finding> {
    let flow = &flows[n];
    if !flow.follows {
        return Vec::new();
    }
    let next = |other: &Flow<'_>, at: &(usize, TableId)| {
        let mut ways = other.ways.iter().flatten();
        ways.find(|(source, _)| (other.source, source) == (at.0, &at.1))
            .map(|(_, target)| (other.target, target.clone()))
    };
    let mut found: BTreeMap<Vec<usize>, Vec<&TableId>> = BTreeMap::new();
    for (source, target) in flow.ways.iter().flatten() {
        let (from, goal) = ((flow.target, target.clone()), (flow.source, source.clone()));
        if let Some(others) = circle(flows, n, from, &goal, &next) {
            found.entry(others).or_default().push(source);
        }
    }
    let finding = |(others, tables): (Vec<usize>, Vec<&TableId>)| {
        let names: Vec<&str> = others.iter().map(|m| flows[*m].name).collect();
        let names = names.join(" and ");
        let more = if tables.len() > 1 { format!(" (and {} more)", tables.len() - 1) } else { String::new() };
        let back = format!("brings changes of {}{more} back to where they came from", tables[0]);
        let together = others.iter().all(|m| flows[*m].picked);
        Finding {
            severity: if together { Severity::Error } else { Severity::Warning },
            subject: format!("task {}", flow.name),
            message: match together {
                true => format!("together with {names} it {back}: each would go round without end"),
                false => format!("run at the same time as {names} it {back}, and each would go round without end"),
            },
            remedy: Some(APART.into()),
        }
    };
    found.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(name: &str) -> TableId {
        TableId::new("p", name)
    }

    /// A picked task that follows tables which keep their names.
    fn flow<'a>(name: &'a str, source: usize, target: usize, tables: &[&str]) -> Flow<'a> {
        let ways = tables.iter().map(|table| (t(table), t(table))).collect();
        Flow { name, source, target, follows: true, picked: true, ways: Some(ways) }
    }

    #[test]
    fn both_tasks_are_told() {
        let mut flows = [flow("one", 0, 2, &["x", "y"]), flow("two", 1, 2, &["y", "z"])];
        let found = [judge(&flows, 0), judge(&flows, 1)];
        assert_eq!((found[0].len(), found[1].len()), (1, 1));
        assert_eq!(found[0][0].message, "tasks one and two both write this table of the target");
        assert_eq!(found[1][0].message, "tasks two and one both write this table of the target");
        let remedy = "exclude what becomes p.y from `tables` of one of the two tasks, or rename it";
        assert_eq!(found[1][0].remedy, Some(remedy.into()));
        flows[1].picked = false;
        assert!(judge(&flows, 0).is_empty(), "they never run together");
        flows[1].target = 0;
        assert!(judge(&flows, 0).is_empty());
    }

    #[test]
    fn a_circle_is_refused_however_long() {
        let mut flows =
            [flow("one", 0, 1, &["x", "y", "z"]), flow("two", 1, 2, &["x", "y"]), flow("three", 2, 0, &["x", "y"])];
        assert!((0..3).all(|n| may_meet(&flows, n)));
        for n in 0..3 {
            let found = judge(&flows, n);
            assert_eq!((found.len(), found[0].severity), (1, Severity::Error), "{found:?}");
        }
        let message = "together with two and three it brings changes of p.x (and 1 more) back to where they \
                       came from: each would go round without end";
        assert_eq!(judge(&flows, 0)[0].message, message);
        flows[1].picked = false;
        assert_eq!(judge(&flows, 0)[0].severity, Severity::Warning);
        // Rows that are copied once go nowhere from there.
        flows[1].follows = false;
        assert!((0..3).all(|n| judge(&flows, n).is_empty()));
    }

    #[test]
    fn a_table_under_another_name_is_another_table() {
        let mut flows = [flow("one", 0, 1, &["x"]), flow("two", 1, 0, &[])];
        flows[1].ways = Some(vec![(t("x"), t("copy"))]);
        assert!(judge(&flows, 0).is_empty() && judge(&flows, 1).is_empty());
        flows[0].ways = Some(vec![(t("copy"), t("x"))]);
        assert_eq!(judge(&flows, 0).len(), 1);
    }
}
