//! The live view as a picture.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line as Text;
use ratatui::widgets::{Cell, Row, Table, TableState};

use super::model::{Line, Model};
use crate::output;

const TASKS: [&str; 8] = ["task", "state", "tables", "suspended", "lag s", "lag", "retained", "rows/s"];
const TABLES: [&str; 7] = ["table", "state", "loaded", "inserted", "updated", "deleted", "quarantined"];

/// Draws all of it.
pub fn draw(frame: &mut Frame<'_>, model: &Model) {
    let rows = Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(2)]);
    let [head, body, foot] = rows.areas(frame.area());
    let following = model.tasks.iter().filter(|task| task.state == "following").count();
    let title = match &model.open {
        Some(task) => format!("trem: tables of {task}"),
        None => format!("trem: {} tasks, {following} following", model.tasks.len()),
    };
    frame.render_widget(Text::styled(title, Style::new().add_modifier(Modifier::BOLD)), head);
    let mut state = TableState::default().with_selected(Some(model.selected));
    match model.open {
        Some(_) => frame.render_stateful_widget(tables(model), body, &mut state),
        None => frame.render_stateful_widget(tasks(model), body, &mut state),
    }
    let keys = match (&model.asked, &model.open) {
        (Some(table), _) => format!("load {table} again, from its start? y: yes, any other key: no"),
        (None, Some(_)) => "up, down: choose  r: load again  escape: back  q: quit".to_owned(),
        (None, None) => {
            "up, down: choose  enter: tables  sort by n: name s: state l: lag c: changes  q: quit".to_owned()
        }
    };
    let [said, help] = Layout::vertical([Constraint::Length(1), Constraint::Length(1)]).areas(foot);
    let reason = model.tasks.get(model.selected).filter(|_| model.open.is_none()).and_then(|t| t.reason.clone());
    let said_text = if model.said.is_empty() { reason.unwrap_or_default() } else { model.said.clone() };
    frame.render_widget(Text::styled(said_text, Style::new().fg(Color::Yellow)), said);
    frame.render_widget(Text::styled(keys, Style::new().add_modifier(Modifier::DIM)), help);
}

fn header(names: &[&'static str]) -> Row<'static> {
    Row::new(names.iter().map(|name| Cell::from(*name)).collect::<Vec<_>>())
        .style(Style::new().add_modifier(Modifier::UNDERLINED))
}

fn widths(count: usize) -> Vec<Constraint> {
    let first = Constraint::Fill(2);
    std::iter::once(first).chain(std::iter::repeat_n(Constraint::Fill(1), count - 1)).collect()
}

fn tasks(model: &Model) -> Table<'static> {
    let size = |bytes: Option<u64>| bytes.map(output::bytes).unwrap_or_default();
    let row = |task: &Line| {
        let lag = task.lag_seconds.map(|s| format!("{s:.1}")).unwrap_or_default();
        let cells = [
            task.name.clone(),
            task.state.clone(),
            task.tables.to_string(),
            task.suspended.to_string(),
            lag,
            size(task.lag_bytes),
            size(task.retained_bytes),
            format!("{:.0}", task.rate),
        ];
        Row::new(cells).style(Style::new().fg(colour(&task.state, task.suspended > 0)))
    };
    picture(model.tasks.iter().map(row).collect(), &TASKS)
}

fn tables(model: &Model) -> Table<'static> {
    let row = |table: &serde_json::Value| {
        let text = |key: &str| table[key].as_str().unwrap_or_default().to_owned();
        let count = |key: &str| table[key].as_u64().unwrap_or(0).to_string();
        let state = text("state");
        let colour = colour(&state, state == "suspended");
        let counts = ["rows_loaded", "inserted", "updated", "deleted", "quarantined"].map(count);
        Row::new([text("name"), state].into_iter().chain(counts).collect::<Vec<_>>()).style(Style::new().fg(colour))
    };
    picture(model.tables.iter().map(row).collect(), &TABLES)
}

fn picture(rows: Vec<Row<'static>>, names: &[&'static str]) -> Table<'static> {
    let chosen = Style::new().add_modifier(Modifier::REVERSED);
    Table::new(rows, widths(names.len())).header(header(names)).row_highlight_style(chosen)
}

/// What needs somebody stands out.
fn colour(state: &str, suspended: bool) -> Color {
    match state {
        "failed" | "suspended" => Color::Red,
        "retrying" => Color::Yellow,
        _ if suspended => Color::Yellow,
        "following" | "ready" | "done" => Color::Green,
        _ => Color::Reset,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::{Duration, Instant};

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::super::model::{Act, Key};
    use super::*;

    fn shown(model: &Model) -> String {
        let mut terminal = Terminal::new(TestBackend::new(100, 8)).unwrap();
        terminal.draw(|frame| draw(frame, model)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let line = |y| (0..100).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>().trim_end().to_owned();
        (0..8).map(line).collect::<Vec<_>>().join("\n")
    }

    fn answer(changes: u64) -> serde_json::Value {
        let task = |name: &str, state: &str, lag: f64, changes: u64| {
            let tables = json!({"total": 2, "suspended": 1});
            let reason = if state == "failed" { json!("down") } else { json!(null) };
            let status = json!({"state": state, "lag_seconds": lag, "lag_bytes": 2048, "changes": changes,
                                "rows_loaded": 0, "tables": tables, "reason": reason});
            json!({ "name": name, "status": status })
        };
        json!({"tasks": [task("shop", "following", 0.0, changes), task("books", "failed", 90.5, 0)]})
    }

    #[test]
    fn tasks_are_shown_sorted_and_opened() {
        let (mut model, now) = (Model::default(), Instant::now());
        model.tasks(&answer(0), now);
        model.tasks(&answer(500), now + Duration::from_secs(2));
        let picture = shown(&model);
        let lines: Vec<&str> = picture.lines().collect();
        assert!(lines[0].contains("2 tasks, 1 following"), "{picture}");
        assert!(lines[2].starts_with("books") && lines[2].contains("90.5"), "{picture}");
        assert!(lines[3].starts_with("shop") && lines[3].ends_with("250"), "{picture}");
        assert!(lines[6].contains("down"), "why the chosen one has failed: {picture}");
        assert_eq!(model.key(Key::Letter('c')), Act::None);
        assert!(shown(&model).lines().nth(2).unwrap().starts_with("shop"));
        assert_eq!((model.key(Key::Enter), model.open()), (Act::None, Some("shop")));
        model.tables(&json!({"tables": [{"name": "public.a", "state": "ready", "rows_loaded": 7},
                                        {"name": "public.b", "state": "suspended"}]}));
        model.key(Key::Down);
        model.key(Key::Down);
        assert!(shown(&model).contains("public.a"), "{}", shown(&model));
        assert_eq!(model.key(Key::Letter('r')), Act::None);
        assert!(shown(&model).contains("load public.b again"));
        assert_eq!(model.key(Key::Letter('n')), Act::None, "not confirmed");
        model.key(Key::Letter('r'));
        let reload = Act::Reload { task: "shop".to_owned(), table: "public.b".to_owned() };
        assert_eq!(model.key(Key::Letter('y')), reload);
        assert_eq!((model.key(Key::Back), model.open()), (Act::None, None));
        assert_eq!(model.key(Key::Letter('q')), Act::Quit);
    }
}
