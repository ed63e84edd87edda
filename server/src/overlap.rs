//! Two tasks that write one table of one target: each would undo the other's work.

use std::collections::BTreeMap;

use trem_engine::ports::{Finding, Severity};
use trem_engine::routes::Routes;
use trem_engine::runner::Task;
use trem_engine::schema::TableId;

use crate::config::TaskConfig;

/// For each task the findings against it. Sources are asked only when two tasks share a target; one that
/// cannot be asked is left out here, because its own task tells why.
pub async fn overlaps(configs: &[TaskConfig], tasks: &[Task]) -> Vec<Vec<Finding>> {
    let mut tables: Vec<Option<Vec<TableId>>> = vec![None; tasks.len()];
    for (n, config) in configs.iter().enumerate() {
        let shared = |other: &TaskConfig| config.target.same_database(&other.target);
        if configs.iter().enumerate().any(|(m, other)| m != n && shared(other))
            && let Ok(catalog) = tasks[n].source.discover(&config.plan.selection).await
        {
            let routes = Routes::of(&config.rules, &catalog);
            tables[n] = Some(routes.all().iter().map(|r| r.target().id.clone()).collect());
        }
    }
    judge(configs, &tables)
}

fn judge(configs: &[TaskConfig], tables: &[Option<Vec<TableId>>]) -> Vec<Vec<Finding>> {
    let mut findings = vec![Vec::new(); configs.len()];
    for n in 0..configs.len() {
        let mut doubled: BTreeMap<&TableId, &str> = BTreeMap::new();
        for m in (0..configs.len()).filter(|m| *m != n) {
            if configs[n].target.same_database(&configs[m].target) {
                let mine = tables[n].iter().flatten();
                let both = mine.filter(|id| tables[m].iter().flatten().any(|other| other == *id));
                doubled.extend(both.map(|id| (id, configs[m].plan.name.as_str())));
            }
        }
        findings[n].extend(doubled.into_iter().map(|(id, other)| Finding {
            severity: Severity::Error,
            subject: format!("table {id}"),
            message: format!("tasks {} and {other} both write this table of the target", configs[n].plan.name),
            remedy: Some(
                format!("exclude what becomes {id} from `tables` of one of the two tasks, or rename it").into(),
            ),
        }));
    }
    findings
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::path::Path;

    const FILE: &str = r#"
endpoints.a = { kind = "postgres", url = "postgres://u@a/a" }
endpoints.b = { kind = "postgres", url = "postgres://u@b/b" }
endpoints.c = { kind = "postgres", url = "postgres://u@c/c" }
tasks.one = { source = "a", target = "c", tables = [{ include = "p.*" }] }
tasks.two = { source = "b", target = "c", tables = [{ include = "p.*" }] }
"#;

    #[test]
    fn both_tasks_are_told() {
        let mut configs = crate::config::parse(Path::new("t.toml"), FILE, &|_| None).unwrap().tasks;
        let t = |name: &str| TableId::new("p", name);
        let tables = [Some(vec![t("x"), t("y")]), Some(vec![t("y"), t("z")])];
        let found = judge(&configs, &tables);
        assert_eq!(found[0].len(), 1);
        assert_eq!(found[0][0].message, "tasks one and two both write this table of the target");
        assert_eq!(found[1][0].message, "tasks two and one both write this table of the target");
        let remedy = "exclude what becomes p.y from `tables` of one of the two tasks, or rename it";
        assert_eq!(found[1][0].remedy, Some(remedy.into()));
        configs[1].target = configs[0].source.clone();
        assert!(judge(&configs, &tables).iter().all(Vec::is_empty));
    }
}
