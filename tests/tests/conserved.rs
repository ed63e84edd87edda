//! What the source counts of its changes, for what trem counts to be held against: applied, merged, filtered and set
//! aside are all there were.

use trem_tests::World;

/// Executes statements in one transaction, and tells how many rows they have changed. TRUNCATE makes the source forget
/// the number: such a transaction is left out.
pub async fn changed(world: &World, sql: &str) -> i64 {
    if sql.contains("TRUNCATE") {
        return 0;
    }
    let counts = "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_stat_xact_user_tables \
                  WHERE schemaname <> 'kept'";
    world.source.exec("BEGIN").await;
    let before = world.source.number(counts).await;
    let done = world.source.try_exec(sql).await;
    let after = match done {
        Ok(()) => world.source.number(counts).await,
        Err(_) => before,
    };
    world.source.exec(if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
    after - before
}
