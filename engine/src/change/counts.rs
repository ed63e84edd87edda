//! What became of the changes of a table.

/// What an apply did to one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableCounts {
    /// Rows inserted.
    pub inserted: u64,
    /// Rows updated.
    pub updated: u64,
    /// Rows deleted.
    pub deleted: u64,
    /// Changes that took effect through a later change of the same row.
    pub merged: u64,
    /// Changes that a filter kept from the target.
    pub filtered: u64,
    /// Changes set aside because a rule could not be applied to them.
    pub quarantined: u64,
    /// Changes that found the target already different: an insert that met a row, an update or delete that
    /// met none. The result is the source's row all the same.
    pub conflicts: u64,
    /// Times that the source emptied the table.
    pub truncates: u64,
    /// Changes of the table's shape that were followed.
    pub ddl: u64,
}

impl TableCounts {
    /// Adds another count.
    pub fn add(&mut self, other: &Self) {
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.deleted += other.deleted;
        self.merged += other.merged;
        self.filtered += other.filtered;
        self.quarantined += other.quarantined;
        self.conflicts += other.conflicts;
        self.truncates += other.truncates;
        self.ddl += other.ddl;
    }

    /// Each count, and what it is of.
    pub fn by_outcome(&self) -> [(&'static str, u64); 7] {
        [
            ("inserted", self.inserted),
            ("updated", self.updated),
            ("deleted", self.deleted),
            ("merged", self.merged),
            ("filtered", self.filtered),
            ("quarantined", self.quarantined),
            ("conflicts", self.conflicts),
        ]
    }

    /// Changes read: what was applied, merged, filtered and quarantined.
    pub fn read(&self) -> u64 {
        self.inserted + self.updated + self.deleted + self.merged + self.filtered + self.quarantined
    }
}
