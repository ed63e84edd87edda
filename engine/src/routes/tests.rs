//! Catalogues whose tables go elsewhere, clash, or are refused.

use super::*;
use crate::error::Class;
use crate::schema::{Column, Dialect, GeneratedColumn, Identity, Native, SecondaryKind, Type};
use crate::template::{Piece, Template};

/// Schemas become `dw`; column `a` becomes `b`; a table called `bad` has no route, `lacking` fails its check.
struct ToDw;

impl Rules for ToDw {
    fn route(&self, table: &Arc<TableSchema>) -> Result<Route, Error> {
        if table.id.table == "bad" {
            return Err(Error::refused("is bad"));
        }
        let mut target = (**table).clone();
        target.id.schema = "dw".to_owned();
        target.columns.iter_mut().filter(|c| c.name == "a").for_each(|c| c.name = "b".to_owned());
        target.generated.iter_mut().for_each(|c| c.name = "h".to_owned());
        Route::renamed(Arc::clone(table), Arc::new(target))
    }

    fn check(&self, table: &Arc<TableSchema>) -> Result<(), Error> {
        if table.id.table == "lacking" { Err(Error::refused("has no column x")) } else { Ok(()) }
    }
}

fn table(schema: &str, name: &str) -> Arc<TableSchema> {
    let native = Native { dialect: Dialect::new("d"), name: "integer".to_owned(), detail: String::new() };
    let column = |name: &str| Column {
        name: name.to_owned(),
        ty: Type::Int32,
        omissible: false,
        native: native.clone(),
        nullable: false,
    };
    let expression = Template::verbatim(Dialect::new("d"), "1");
    Arc::new(TableSchema {
        id: TableId::new(schema, name),
        native_id: Some(1),
        columns: vec![column("k"), column("a")],
        key: vec![0],
        primary_key: vec![0],
        identity: Identity::Key,
        generated: vec![GeneratedColumn { name: "g".to_owned(), native: native.clone(), expression }],
        history: Default::default(),
    })
}

fn object(table: &Arc<TableSchema>, name: &str, pieces: Vec<Piece>) -> SecondaryObject {
    let ddl = Template { dialect: Dialect::new("d"), pieces };
    SecondaryObject { table: table.id.clone(), name: name.to_owned(), kind: SecondaryKind::Index, ddl }
}

fn column(name: &str) -> Piece {
    Piece::Column(name.to_owned())
}

#[test]
fn one_tables_matter_stays_its_own() {
    let tables = vec![table("s", "bad"), table("s", "lacking"), table("s", "t"), table("s", "u"), table("z", "t")];
    let routes = Routes::of(&ToDw, &Catalog { tables, ..Catalog::default() });
    let names: Vec<String> = routes.all().iter().map(|r| format!("{r:?}")).collect();
    assert_eq!(names, ["Route(s.u -> dw.u)"]);
    let refused: Vec<String> = routes.refused().iter().map(|(_, e)| e.to_string()).collect();
    assert_eq!(refused[..2], ["s.bad: is bad", "s.lacking: has no column x"]);
    assert!(
        refused[2].starts_with("s.t: would become the target table dw.t, which z.t would become too"),
        "{refused:?}"
    );
    assert!(
        refused[3].starts_with("z.t: would become the target table dw.t, which s.t would become too"),
        "{refused:?}"
    );
    assert!(routes.refused().iter().all(|(t, e)| e.class() == Class::Refused && e.table_id() == Some(&t.id)));
    assert!(routes.of_source(&TableId::new("s", "t")).is_none());
    let found = |route: Option<&Route>| route.map(|r| r.target().id.to_string());
    assert_eq!(found(routes.of_source(&TableId::new("s", "u"))), Some("dw.u".to_owned()));
    assert_eq!(found(routes.of_target(&TableId::new("dw", "u"))), Some("dw.u".to_owned()));
}

#[test]
fn objects_are_called_as_the_target_calls_them() {
    let (t, u, bad) = (table("s", "t"), table("s", "u"), table("s", "bad"));
    let elsewhere = TableId::new("s", "elsewhere");
    let of = |id: &TableId, name: &str| vec![Piece::Table(id.clone()), Piece::ColumnOf(id.clone(), name.to_owned())];
    let secondary = vec![
        object(&t, "own", vec![Piece::Table(t.id.clone()), column("a"), column("g"), column("k")]),
        object(&t, "to_u", of(&u.id, "a")),
        object(&t, "elsewhere", of(&elsewhere, "a")),
        object(&t, "to_bad", of(&bad.id, "a")),
        object(&t, "of_no_column", vec![column("lost")]),
        object(&bad, "of_bad", vec![column("a")]),
    ];
    let catalog = Catalog { tables: vec![t, u, bad], secondary, ..Catalog::default() };
    let routes = Routes::of(&ToDw, &catalog);
    let text = |o: &SecondaryObject| (o.table.to_string(), o.name.clone(), o.ddl.render(|n| format!("<{n}>")));
    let texts: Vec<_> = routes.secondary().iter().map(text).collect();
    let expected = [("own", "<dw>.<t><b><h><k>"), ("to_u", "<dw>.<u><b>"), ("elsewhere", "<s>.<elsewhere><a>")];
    assert_eq!(texts, expected.map(|(name, ddl)| ("dw.t".to_owned(), name.to_owned(), ddl.to_owned())));
    let target = routes.target_catalog(&catalog);
    let names: Vec<String> = target.tables.iter().map(|t| t.id.to_string()).collect();
    assert_eq!((names, target.secondary.len()), (vec!["dw.t".to_owned(), "dw.u".to_owned()], 3));
}
