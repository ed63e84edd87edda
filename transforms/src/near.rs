//! What somebody may have meant who wrote a name that is not there.

/// How alike names have to be, from 0 to 1.
const ALIKE: f64 = 0.8;

/// The nearest of these names, if one is near.
pub(crate) fn to<'n>(written: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let alike = |name: &str| strsim::jaro_winkler(&written.to_lowercase(), &name.to_lowercase());
    let scored = names.map(|name| (alike(name), name)).filter(|(alike, _)| *alike >= ALIKE);
    scored.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_nearest_name_is_told() {
        let names = ["public.orders", "public.customers", "audit.log"];
        let near = |written: &str| super::to(written, names.into_iter());
        assert_eq!(near("public.oders"), Some("public.orders"));
        assert_eq!(near("Public.Customers"), Some("public.customers"));
        assert_eq!(near("x.y"), None);
    }
}
