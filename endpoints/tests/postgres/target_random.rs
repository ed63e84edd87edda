//! Random sets, applied by the PostgreSQL target and, one change after the other, to a model: the same rows after
//! every set. A failing seed is printed; put it into `SEED` of the environment to replay it alone.

use std::collections::BTreeMap;

use crate::rig::{Change, Rig, V, delete, from, i, insert, t, table, update};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use trem_engine::change::Op;
use trem_engine::schema::Identity;

type Model = BTreeMap<i32, (i32, String)>;

fn seeds(fallback: std::ops::Range<u64>) -> Vec<u64> {
    match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => fallback.collect(),
    }
}

struct World {
    random: StdRng,
    rows: Model,
    /// The number of the last fresh key, unique value or text.
    last: i32,
}

impl World {
    fn fresh(&mut self) -> i32 {
        self.last += 1;
        self.last
    }

    fn any(&mut self) -> Option<i32> {
        let ids: Vec<i32> = self.rows.keys().copied().collect();
        ids.choose(&mut self.random).copied()
    }

    /// The text to send, which may be left out when it stays.
    fn text(&mut self, id: i32) -> V {
        if self.random.random_bool(0.5) {
            return V::Unknown;
        }
        let text = format!("t{}", self.fresh());
        self.rows.get_mut(&id).unwrap().1 = text.clone();
        t(&text)
    }

    fn step(&mut self, out: &mut Vec<Change>) {
        match (self.random.random_range(0..10), self.any()) {
            (0..=2, _) | (_, None) => {
                // Now and then a key that is free again.
                let id =
                    if self.random.random_bool(0.3) { self.random.random_range(1..40) } else { 100 + self.fresh() };
                if self.rows.contains_key(&id) {
                    return;
                }
                let (u, text) = (self.fresh(), format!("t{}", self.fresh()));
                out.push(insert([i(id), i(u), t(&text)]));
                self.rows.insert(id, (u, text));
            }
            (3, Some(id)) => {
                out.push(delete(id));
                self.rows.remove(&id);
            }
            (4 | 5, Some(id)) => {
                let to = self.random.random_range(1..40);
                if self.rows.contains_key(&to) {
                    return;
                }
                let row = self.rows.remove(&id).unwrap();
                let u = row.0;
                self.rows.insert(to, row);
                let text = self.text(to);
                out.push(from(&[i(id)], [i(to), i(u), text]));
            }
            (6 | 7, Some(id)) => {
                let text = self.text(id);
                out.push(update([i(id), i(self.rows[&id].0), text]));
            }
            (_, Some(first)) => self.rotate(first, out),
        }
    }

    /// The unique values of a few rows go round.
    fn rotate(&mut self, first: i32, out: &mut Vec<Change>) {
        let mut ids = vec![first];
        for _ in 0..3 {
            let id = self.any().unwrap();
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        let values: Vec<i32> = ids.iter().map(|id| self.rows[id].0).collect();
        for (n, id) in ids.iter().enumerate() {
            let u = values[(n + 1) % ids.len()];
            self.rows.get_mut(id).unwrap().0 = u;
            let text = self.text(*id);
            out.push(update([i(*id), i(u), text]));
        }
    }
}

#[tokio::test]
async fn keyed_rows_with_another_unique_column() {
    let mut rig = Rig::start().await;
    for seed in seeds(0..12) {
        let table = table(&format!("t{seed}"), Identity::Key);
        rig.prepare(&table).await;
        let name = format!("\"s x\".t{seed}");
        rig.db.exec(&format!("ALTER TABLE {name} ADD UNIQUE (u); ALTER TABLE {name} ADD extra int DEFAULT 5")).await;
        let mut world = World { random: StdRng::seed_from_u64(seed), rows: Model::new(), last: 0 };
        for number in 0..12 {
            let mut changes = Vec::new();
            for _ in 0..world.random.random_range(1..120) {
                world.step(&mut changes);
            }
            let counts = rig.apply(&table, &changes).await;
            assert_eq!(counts.conflicts, 0, "seed {seed}, set {number}");
            let sum = counts.inserted + counts.updated + counts.deleted + counts.merged;
            assert_eq!(sum, changes.len() as u64, "seed {seed}, set {number}");
            let mut want: Vec<String> =
                world.rows.iter().map(|(id, (u, text))| format!("({id},{u},{text},5)")).collect();
            want.sort();
            let mut found = rig.rows(&table).await;
            found.sort();
            assert_eq!(found, want, "seed {seed}, set {number}");
        }
    }
}

#[tokio::test]
async fn rows_without_a_key() {
    let mut rig = Rig::start().await;
    for seed in seeds(0..8) {
        let table = table(&format!("t{seed}"), Identity::Full);
        rig.prepare(&table).await;
        let mut random = StdRng::seed_from_u64(seed);
        let mut model: Vec<[i32; 2]> = Vec::new();
        for number in 0..10 {
            let row = |r: &[i32; 2]| [i(r[0]), if r[1] == 0 { V::Null } else { i(r[1]) }, t("x")];
            let mut changes: Vec<Change> = Vec::new();
            for _ in 0..random.random_range(1..150) {
                let next = [random.random_range(0..4), random.random_range(0..3)];
                let kind = random.random_range(0..4);
                if kind < 2 || model.is_empty() {
                    changes.push(insert(row(&next)));
                    model.push(next);
                    continue;
                }
                let old = model.swap_remove(random.random_range(0..model.len()));
                if kind == 2 {
                    changes.push((Op::Delete, None, row(&old).to_vec()));
                } else {
                    changes.push(from(&row(&old), row(&next)));
                    model.push(next);
                }
            }
            assert_eq!(rig.apply(&table, &changes).await.conflicts, 0, "seed {seed}, set {number}");
            let shown =
                |r: &[i32; 2]| format!("({},{},x)", r[0], if r[1] == 0 { String::new() } else { r[1].to_string() });
            let mut want: Vec<String> = model.iter().map(shown).collect();
            want.sort();
            let mut found = rig.rows(&table).await;
            found.sort();
            assert_eq!(found, want, "seed {seed}, set {number}");
        }
    }
}
