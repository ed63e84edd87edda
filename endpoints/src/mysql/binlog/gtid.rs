//! Global transaction ids: which transactions a place in the log is behind.

use std::collections::BTreeMap;
use std::fmt;

use trem_engine::{Error, Remedy, Result};

/// MariaDB's: for each replication domain the transaction that came last. (MariaDB knowledge base, "Global Transaction
/// ID".)
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gtids(BTreeMap<u32, (u32, u64)>);

impl Gtids {
    /// As the server writes them: `domain-server-sequence`, separated by commas.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = || Error::fatal(format!("`{text}` are no GTIDs of MariaDB"));
        let mut gtids = BTreeMap::new();
        for one in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
            let mut numbers = one.split('-');
            let mut next = || numbers.next().ok_or_else(wrong);
            let (domain, server, sequence) = (next()?, next()?, next()?);
            let domain = domain.parse().map_err(|_| wrong())?;
            gtids.insert(domain, (server.parse().map_err(|_| wrong())?, sequence.parse().map_err(|_| wrong())?));
        }
        Ok(Self(gtids))
    }

    /// A transaction has come.
    ///
    /// # Errors
    /// Class `Lineage` where the order of its domain is broken: no place could be told from another.
    pub(crate) fn advance(&mut self, domain: u32, server: u32, sequence: u64) -> Result<()> {
        if let Some((_, before)) = self.0.insert(domain, (server, sequence))
            && before >= sequence
        {
            let what = format!("transaction {domain}-{server}-{sequence} comes behind number {before} of its domain");
            return Err(Error::lineage(what)
                .remedy(Remedy::Sql("SET GLOBAL gtid_strict_mode = ON".to_owned()).then(Remedy::StartAnew)));
        }
        Ok(())
    }

    /// Grows with each transaction, whichever domain it is of.
    pub(crate) fn order(&self) -> u128 {
        self.0.values().map(|(_, sequence)| u128::from(*sequence)).sum()
    }
}

impl fmt::Display for Gtids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |(domain, (server, sequence)): (&u32, &(u32, u64))| format!("{domain}-{server}-{sequence}");
        f.write_str(&self.0.iter().map(one).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use trem_engine::Class;

    use super::*;

    #[test]
    fn each_domain_has_an_order_of_its_own() {
        let mut gtids = Gtids::parse("1-101-7, 0-5-12").unwrap();
        assert_eq!((gtids.to_string().as_str(), gtids.order()), ("0-5-12,1-101-7", 19));
        gtids.advance(1, 102, 8).unwrap();
        gtids.advance(9, 1, 1).unwrap();
        assert_eq!((gtids.to_string().as_str(), gtids.order()), ("0-5-12,1-102-8,9-1-1", 21));
        assert_eq!(gtids.advance(1, 101, 8).unwrap_err().class(), Class::Lineage);
        assert_eq!(Gtids::parse("").unwrap(), Gtids::default());
        for wrong in ["1-2", "a-b-c", "1-2-x"] {
            assert!(Gtids::parse(wrong).is_err(), "{wrong}");
        }
    }
}
