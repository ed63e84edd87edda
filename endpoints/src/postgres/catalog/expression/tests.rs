//! Expressions as servers print them, and random ones of the same kind.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const COLUMNS: [&str; 12] =
    ["a", "b", "zone", "year", "lower", "text", "public", "Größe", "a.b", "x\"y", "true", "ops"];

fn with_scope<T>(look: impl FnOnce(Scope<'_>) -> T) -> T {
    let columns = COLUMNS.iter().map(|c| (*c).to_owned()).collect();
    look(Scope { table: &TableId::new("s", "t"), columns: &columns })
}

/// As the server quotes: only where it must.
fn minimal(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    if plain && name != "true" { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// The template's columns in angle brackets.
fn marked(pieces: Pieces) -> String {
    pieces.template().render(|name| format!("<{name}>"))
}

#[track_caller]
fn expression(text: &str, expected: &str) {
    assert_eq!(with_scope(|scope| scope.expression(text).render(|name| format!("<{name}>"))), expected);
}

#[test]
fn columns_are_told_from_everything_else() {
    expression("CHECK ((a > 0))", "CHECK ((<a> > 0))");
    expression("((a)::text <> 'a'::text)", "((<a>)::text <> 'a'::text)");
    expression("lower(lower)", "lower(<lower>)");
    expression("public.lower(public)", "public.lower(<public>)");
    expression("(a COLLATE public.b)", "(<a> COLLATE public.b)");
    expression("(\"true\" = true)", "(<true> = true)");
    expression("(b)::timestamp(3) without time zone", "(<b>)::timestamp(3) without time zone");
    expression("((b)::interval year to month + year)", "((<b>)::interval year to month + <year>)");
    expression("EXTRACT(year FROM zone)", "EXTRACT(year FROM <zone>)");
    expression("(\"a.b\" OPERATOR(public.=) \"x\"\"y\")", "(<a.b> OPERATOR(public.=) <x\"y>)");
    expression("((a).b + (ROW(a, b)).a)", "((<a>).b + (ROW(<a>, <b>)).a)");
    expression("make_interval(a => b)", "make_interval(a => <b>)");
    expression("XMLSERIALIZE(CONTENT a AS text)", "XMLSERIALIZE(CONTENT <a> AS text)");
    expression("XMLELEMENT(NAME a, XMLATTRIBUTES(a AS b), b)", "XMLELEMENT(NAME a, XMLATTRIBUTES(<a> AS b), <b>)");
    expression("JSON_VALUE(a, '$.a' RETURNING text)", "JSON_VALUE(<a>, '$.a' RETURNING text)");
    expression("((b)::text[])[a]", "((<b>)::text[])[<a>]");
    expression("(a = ANY (ARRAY[b, 1]))", "(<a> = ANY (ARRAY[<b>, 1]))");
    expression("(t.* IS NOT NULL)", "(<s>.<t>.* IS NOT NULL)");
    expression("'it''s a'::text || \"text\"", "'it''s a'::text || <text>");
    expression("(c + tableoid)", "(c + tableoid)");
}

#[test]
fn an_index_has_other_names_beside_its_elements() {
    let index = |text: &str, elements: &[&str], predicate: Option<&str>| {
        let elements: Vec<String> = elements.iter().map(|e| (*e).to_owned()).collect();
        let mut pieces = Pieces::default();
        with_scope(|scope| scope.index(text, &elements, predicate, &mut pieces)).map(|()| marked(pieces))
    };
    let text = " USING gist (a ops (b='1, 2', year='3') DESC, lower(b) COLLATE \"a.b\" ops, ((a + b)) text) \
                INCLUDE (ops, year) NULLS NOT DISTINCT WITH (fillfactor='70') WHERE (a > 0)";
    let expected = " USING gist (<a> ops (b='1, 2', year='3') DESC, lower(<b>) COLLATE \"a.b\" ops, ((<a> + <b>)) \
                    text) INCLUDE (<ops>, <year>) NULLS NOT DISTINCT WITH (fillfactor='70') WHERE (<a> > 0)";
    let elements = ["a", "lower(b)", "((a + b))", "ops", "year"];
    assert_eq!(index(text, &elements, Some("(a > 0)")).as_deref(), Some(expected));
    let text = "EXCLUDE USING gist (a WITH =, b ops WITH &&) WHERE (a) DEFERRABLE INITIALLY DEFERRED";
    let expected = "EXCLUDE USING gist (<a> WITH =, <b> ops WITH &&) WHERE (<a>) DEFERRABLE INITIALLY DEFERRED";
    assert_eq!(index(text, &["a", "b"], Some("a")).as_deref(), Some(expected));
    assert_eq!(index(text, &["b", "a"], Some("a")), None, "not what the server says elsewhere");
}

#[test]
fn a_foreign_key_names_columns_of_two_tables() {
    let foreign_key = |text: &str| {
        let mut pieces = Pieces::default();
        let other = TableId::new("o", "b");
        with_scope(|scope| scope.foreign_key(text, &other, &mut pieces)).map(|()| marked(pieces))
    };
    let text =
        "FOREIGN KEY (a, \"x\"\"y\") REFERENCES o.b(lower, \"T (\") MATCH FULL ON DELETE SET NULL (a) DEFERRABLE";
    let expected =
        "FOREIGN KEY (<a>, <x\"y>) REFERENCES <o>.<b>(<lower>, <T (>) MATCH FULL ON DELETE SET NULL (<a>) DEFERRABLE";
    assert_eq!(foreign_key(text).as_deref(), Some(expected));
    assert_eq!(foreign_key("FOREIGN KEY (a)"), None);
}

/// A text, and the columns in it.
type Sample = (String, Vec<&'static str>);

fn all(format: &str, parts: &[Sample]) -> Sample {
    let mut text = format.to_owned();
    for (part, _) in parts {
        text = text.replacen('_', part, 1);
    }
    (text, parts.iter().flat_map(|(_, columns)| columns.clone()).collect())
}

/// `_` in a form stands for an expression, `@` for the name of something else.
const FORMS: [&str; 16] = [
    "(_ + _)",
    "@(_, _)",
    "public.@(_)",
    "(_)::timestamp(3) without time zone",
    "(_)::@",
    "(_)::@.@[]",
    "(_ COLLATE @.@)",
    "CASE WHEN _ THEN _ ELSE true END",
    "(_ OPERATOR(@.=) _)",
    "EXTRACT(year FROM _)",
    "(_).@",
    "ARRAY[_, 1.5, _]",
    "@(@ => _)",
    "XMLSERIALIZE(CONTENT _ AS text)",
    "(_ = ANY ('{@}'::text[]))",
    "COALESCE(_, NULL::character varying)",
];

fn sample() -> impl Strategy<Value = Sample> {
    let column = prop::sample::select(&COLUMNS[..]).prop_map(|c| (minimal(c), vec![c]));
    let literal = vec(prop::sample::select(vec!["a", "''", " ", "\"", "\\", "(", "::", "zone"]), 0..6)
        .prop_map(|parts| (format!("'{}'::text", parts.concat()), Vec::new()));
    prop_oneof![3 => column, 1 => literal].prop_recursive(5, 40, 2, |inner| {
        let names = vec(prop::sample::select(&COLUMNS[..]), 2);
        (prop::sample::select(&FORMS[..]), names, vec(inner, 2)).prop_map(|(form, names, parts)| {
            let quoted = |text: String, name: &&str| text.replacen('@', &minimal(name), 1);
            let form = names.iter().fold(form.to_owned(), quoted);
            let used = form.matches('_').count();
            all(&form, &parts[..used])
        })
    })
}

proptest! {
    #[test]
    fn identity_gives_the_servers_text_back((text, columns) in sample()) {
        let template = with_scope(|scope| scope.expression(&text));
        prop_assert_eq!(template.render(minimal), text);
        let found: Vec<&str> = template.pieces.iter().filter_map(|p| match p {
            Piece::Column(name) => Some(name.as_str()),
            _ => None,
        }).collect();
        prop_assert_eq!(found, columns);
    }

    #[test]
    fn no_text_is_lost(text in "[a-zE_'\"():.,= \\\\é\\[\\]]{0,40}") {
        let template = with_scope(|scope| scope.expression(&text));
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let plain = |text: &str| text.replace(['"', ' '], "").replace("s.t.*", "t.*");
        prop_assert_eq!(plain(&template.render(quoted)), plain(&text));
    }
}
