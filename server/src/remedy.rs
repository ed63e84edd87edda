//! What helps, as the command line says it: commands are written out, so that they can be copied into a shell.

use std::path::Path;

use trem_engine::schema::TableId;
use trem_engine::{Error, Remedy};

/// The commands for one task, of a configuration file or of a daemon.
#[derive(Clone, Copy, Debug)]
pub struct Commands<'a> {
    /// The file, as the user named it; none of a daemon.
    file: Option<&'a Path>,
    /// The task.
    pub task: &'a str,
}

impl<'a> Commands<'a> {
    /// Of a task of a file.
    pub fn of_file(file: &'a Path, task: &'a str) -> Self {
        Self { file: Some(file), task }
    }

    /// Of a task of a daemon.
    pub fn of_daemon(task: &'a str) -> Self {
        Self { file: None, task }
    }

    /// A remedy in words, statements and commands.
    pub fn remedy(&self, remedy: &Remedy) -> String {
        let Some(file) = self.file else { return self.requests(remedy) };
        remedy.words(&|part| match part {
            Remedy::Reload(table) => format!("run `{}`", self.reload(table)),
            Remedy::StartAnew => {
                format!("run `{}` and start it again: all its tables are loaded anew", self.drop())
            }
            // Version 0.1.0 has stored commands, with this in the place of the file.
            other => other.to_string().replace("<config>", &quoted(&file.display().to_string())),
        })
    }

    /// The same, as one says it who talks to the daemon.
    fn requests(&self, remedy: &Remedy) -> String {
        let task = self.task;
        remedy.words(&|part| match part {
            Remedy::Reload(table) => format!("reload it (POST /api/v1/tasks/{task}/tables/{table}/reload)"),
            Remedy::StartAnew => {
                format!("reset it (POST /api/v1/tasks/{task}/reset) and start it again: all its tables are loaded anew")
            }
            other => other.to_string(),
        })
    }

    /// An error, with what helps.
    pub fn error(&self, error: &Error) -> String {
        let table = error.table_id().map_or_else(String::new, |table| format!("{table}: "));
        let remedy = error.advice().map_or_else(String::new, |r| format!(" (remedy: {})", self.remedy(r)));
        format!("{table}{}{remedy}", error.reason())
    }

    fn reload(&self, table: &TableId) -> String {
        format!("{} {}", self.of_task("reload"), option("--table", &table.to_string()))
    }

    fn drop(&self) -> String {
        self.of_task("drop")
    }

    fn of_task(&self, command: &str) -> String {
        let file = self.file.map(|file| file.display().to_string()).unwrap_or_default();
        format!("trem {command} {} {}", quoted(&file), option("--task", self.task))
    }
}

/// A value that begins like an option would be taken for one.
fn option(name: &str, value: &str) -> String {
    let between = if value.starts_with('-') { '=' } else { ' ' };
    format!("{name}{between}{}", quoted(value))
}

/// A word of a POSIX shell's command.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::process::Command;
    use trem_engine::task::Glob;

    #[test]
    fn commands_are_written_out() {
        let shop = Commands::of_file(Path::new("my tasks.toml"), "shop");
        let reload = Remedy::Reload(TableId::new("public", "orders"));
        assert_eq!(
            shop.remedy(&Remedy::from("mend it").then(reload.clone())),
            "mend it; then run `trem reload 'my tasks.toml' --task shop --table public.orders`"
        );
        assert_eq!(
            shop.remedy(&Remedy::Sql("DROP TABLE t".into()).or(Remedy::StartAnew)),
            "run `DROP TABLE t`; or run `trem drop 'my tasks.toml' --task shop` and start it again: all its tables are \
             loaded anew"
        );
        let old = "run `trem reload <config> --task shop --table public.orders`: it is loaded anew";
        let said = "run `trem reload 'my tasks.toml' --task shop --table public.orders`: it is loaded anew";
        assert_eq!(shop.remedy(&Remedy::of_stored(old)), said);
        let error = Error::lineage("lost").table(&TableId::new("public", "orders")).remedy(reload);
        let said = "public.orders: lost (remedy: run `trem reload 'my tasks.toml' --task shop --table public.orders`)";
        assert_eq!(shop.error(&error), said);
    }

    /// Whatever the names: a shell gives the words back, and the words mean the same.
    #[test]
    fn names_survive_the_shell() {
        let names =
            ["plain", "my.schema", r"back\slash", "it's", "a b", "$HOME `x` \"y\"", "größe", "-dash", "*?", "[a]"];
        for name in names {
            let table = TableId::new(name, name);
            let commands = Commands::of_file(Path::new("t.toml"), name);
            let line = commands.reload(&table).replacen("trem", "printf '%s\\n'", 1);
            let out = Command::new("sh").args(["-c", &line]).output().unwrap();
            let text =
                String::from_utf8(out.stdout).unwrap().replace("--task=", "--task\n").replace("--table=", "--table\n");
            let words: Vec<&str> = text.lines().collect();
            assert_eq!(words[..4], ["reload", "t.toml", "--task", name], "{line}");
            assert_eq!(Glob::parse(words[5]).unwrap().exact(), Some(table), "{line}");
        }
    }
}
