//! `trem top`: what the tasks of a daemon do, as they do it.

use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use crate::cli::Top;
use crate::client::{Client, segment};
use crate::exit::{Exit, Failure};
use crate::top::{Act, Key, Model, draw};

/// Shows it until somebody has seen enough.
pub fn top(args: &Top) -> Result<Exit, Failure> {
    let client = Client::new(&args.server)?;
    let mut model = Model::default();
    // What cannot be asked is said before the terminal is taken over.
    model.tasks(&client.get("/tasks")?, Instant::now());
    let every = Duration::from_secs_f64(args.every.clamp(0.1, 3600.0));
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let ended = show(&mut terminal, &client, &mut model, every);
    ratatui::restore();
    ended.map(|()| Exit::Done)
}

fn failed(error: std::io::Error) -> Failure {
    Failure::System(format!("this is no terminal to show it on: {error}"))
}

fn show(
    terminal: &mut ratatui::DefaultTerminal,
    client: &Client,
    model: &mut Model,
    every: Duration,
) -> Result<(), Failure> {
    let mut asked = Instant::now();
    loop {
        terminal.draw(|frame| draw(frame, model)).map_err(failed)?;
        let wait = every.saturating_sub(asked.elapsed());
        if event::poll(wait).map_err(failed)? {
            let Some(key) = key(&event::read().map_err(failed)?) else { continue };
            match model.key(key) {
                Act::Quit => return Ok(()),
                Act::None if key != Key::Enter => continue,
                Act::None => {}
                Act::Reload { task, table } => {
                    let path = format!("/tasks/{}/tables/{}/reload", segment(&task), segment(&table));
                    let done = client.post(&path);
                    model.say(done.map_or_else(|e| e.to_string(), |_| format!("{table} is loaded again")));
                }
            }
        }
        asked = Instant::now();
        if let Err(error) = look(client, model) {
            model.say(error.to_string());
        }
    }
}

fn look(client: &Client, model: &mut Model) -> Result<(), Failure> {
    let answer = client.get("/tasks")?;
    model.tasks(&answer, Instant::now());
    if let Some(path) = model.open().map(|task| format!("/tasks/{}/tables", segment(task))) {
        model.tables(&client.get(&path)?);
    }
    Ok(())
}

fn key(event: &Event) -> Option<Key> {
    let Event::Key(key) = event else { return None };
    if key.kind == KeyEventKind::Release {
        return None;
    }
    Some(match key.code {
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc | KeyCode::Backspace | KeyCode::Left => Key::Back,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Letter('q'),
        KeyCode::Char(letter) => Key::Letter(letter),
        _ => return None,
    })
}
