//! Places where tests make the process die or a connection break; nothing of it is compiled without the feature.

/// A place where a failure has an outcome that the other side cannot know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The lane is about to commit.
    LaneBeforeCommit,
    /// The lane's COMMIT is sent and its answer will not come.
    LaneCommitLost,
    /// The lane has committed and nobody knows yet.
    LaneAfterCommit,
    /// A loader has committed and nobody knows yet.
    LoaderAfterCommit,
    /// A set is applied, by code that is at fault.
    LanePanics,
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Point;

    struct Armed {
        name: String,
        at: u64,
        hits: AtomicU64,
    }

    fn armed() -> Option<&'static Armed> {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        let read = || {
            let text = std::env::var("TREM_FAILPOINT").ok()?;
            let (name, at) = text.split_once(':').unwrap_or((&text, "1"));
            Some(Armed { name: name.to_owned(), at: at.parse().ok()?, hits: AtomicU64::new(0) })
        };
        ARMED.get_or_init(read).as_ref()
    }

    pub(super) fn fires(point: Point) -> bool {
        let name = match point {
            Point::LaneBeforeCommit => "lane-before-commit",
            Point::LaneCommitLost => "lane-commit-lost",
            Point::LaneAfterCommit => "lane-after-commit",
            Point::LoaderAfterCommit => "loader-after-commit",
            Point::LanePanics => "lane-panics",
        };
        armed().is_some_and(|a| a.name == name && a.hits.fetch_add(1, Ordering::Relaxed) + 1 == a.at)
    }
}

/// Whether the environment variable `TREM_FAILPOINT` (`name` or `name:N`) asks for a failure at this hit of the place.
pub fn fires(point: Point) -> bool {
    #[cfg(feature = "failpoints")]
    return armed::fires(point);
    #[cfg(not(feature = "failpoints"))]
    {
        let _ = point;
        false
    }
}

/// Panics, as a fault of the program would, if the place fires.
pub fn panic(point: Point) {
    assert!(!fires(point), "a fault was asked for");
}

/// Ends the process at once, as a crash would, if the place fires.
pub fn crash(point: Point) {
    if fires(point) {
        std::process::abort();
    }
}
