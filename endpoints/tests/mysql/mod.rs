//! MariaDB as a source and as a target.

mod conformance;
