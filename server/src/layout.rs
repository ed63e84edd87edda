//! Text that fits the terminal: folded between words, tables without a line that is too long, and nothing broken that
//! somebody may want to copy.

use std::fmt;

use console::{Term, measure_text_width};

/// Of a terminal that nothing is known of, and of a pipe.
const WIDTH: usize = 80;
/// A narrower terminal breaks the lines itself.
const NARROWEST: usize = 40;
/// Between two columns.
const GAP: usize = 2;
/// What stands below the first cell of a row that does not fit.
const BELOW: usize = 4;

/// Columns of the terminal that stdout is; 80 where it is none.
pub fn width() -> usize {
    let known = Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
    known.unwrap_or(WIDTH).max(NARROWEST)
}

/// The text behind `label`, broken between words where it reaches `width`; later lines begin below its first word.
/// Code in backticks can be copied as it stands: a command goes on in the next line, a quoted name is never broken.
pub fn fold(label: &str, text: &str, width: usize) -> String {
    folded(label, &words(text, false), width)
}

/// The same of a statement.
pub fn fold_code(label: &str, statement: &str, width: usize) -> String {
    folded(label, &words(statement, true), width)
}

fn folded(label: &str, words: &[Word], width: usize) -> String {
    let indent = measure_text_width(label);
    let mut out = label.to_owned();
    let mut column = indent;
    for (n, word) in words.iter().enumerate() {
        let length = measure_text_width(&word.text);
        // The backslash behind a word that is not a command's last.
        let behind = if word.command { 2 } else { 0 };
        if n > 0 && column > indent && column + 1 + length + behind > width {
            out.push_str(if word.goes_on { " \\\n" } else { "\n" });
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else if n > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(&word.text);
        column += length;
    }
    out
}

/// What stays in one line.
#[derive(Default)]
struct Word {
    text: String,
    /// A part of a command that goes on behind it.
    command: bool,
    /// A part of a command that has begun before it.
    goes_on: bool,
}

/// `code`: it begins as code.
fn words(text: &str, mut code: bool) -> Vec<Word> {
    let mut words = vec![Word::default()];
    let (mut quote, mut command) = (None, false);
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        let Some(word) = words.last_mut() else { break };
        if c == ' ' && quote.is_none() {
            word.command = command;
            words.push(Word { goes_on: command, ..Word::default() });
            continue;
        }
        word.text.push(c);
        match (c, quote) {
            ('`', None) => {
                code = !code;
                command = code && text[at + 1..].starts_with("trem ");
            }
            // A shell's: the quote behind it is none.
            ('\\', None) if command => word.text.extend(chars.next().map(|(_, c)| c)),
            ('\'' | '"', None) if code => quote = Some(c),
            (_, Some(open)) if c == open => quote = None,
            _ => {}
        }
    }
    words
}

/// Rows under a header. Where they do not fit, the first cell of each has a line of its own and the others stand below.
pub struct Table {
    width: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table that is not wider than this.
    pub fn new(header: &[&str], width: usize) -> Self {
        Self { width, rows: vec![header.iter().map(|&cell| cell.to_owned()).collect()] }
    }

    /// One more row, with as many cells as the header.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows[0].len();
        let widest = |n: usize| self.rows.iter().map(|row| measure_text_width(&row[n])).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(widest).collect();
        let line = |cells: &[String], widths: &[usize]| -> String {
            let pad = |(cell, width): (&String, &usize)| {
                format!("{cell}{}", " ".repeat(width - measure_text_width(cell) + GAP))
            };
            cells.iter().zip(widths).map(pad).collect::<String>().trim_end().to_owned()
        };
        let fits = |widths: &[usize], indent: usize| {
            indent + widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1) <= self.width
        };
        let mut lines = Vec::with_capacity(self.rows.len());
        if fits(&widths, 0) {
            lines.extend(self.rows.iter().map(|row| line(row, &widths)));
        } else if fits(&widths[1..], BELOW) {
            for row in &self.rows {
                lines.push(row[0].clone());
                lines.push(format!("{:BELOW$}{}", "", line(&row[1..], &widths[1..])));
            }
        } else {
            for row in &self.rows[1..] {
                lines.push(row[0].clone());
                let cells = self.rows[0].iter().zip(row).skip(1).filter(|(_, cell)| !cell.is_empty());
                lines.extend(cells.map(|(name, cell)| fold(&format!("{:BELOW$}{name}: ", ""), cell, self.width)));
            }
        }
        f.write_str(&lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::process::Command;

    #[test]
    fn prose_is_broken_between_words() {
        let text = "the target's table has rows, and on-existing is refuse";
        assert_eq!(fold("  ", text, 24), "  the target's table has\n  rows, and on-existing\n  is refuse");
        assert_eq!(fold("reason: ", "averyverylongword here", 12), "reason: averyverylongword\n        here");
    }

    /// A shell gives back the words of a command that was broken.
    #[test]
    fn a_command_can_be_copied_whatever_the_width() {
        let command = r"trem reload 'my tasks.toml' --task it\'s --table 'a long name.with  spaces' --and more";
        let words = |line: &str| {
            let shell = Command::new("sh").args(["-c", &line.replacen("trem", "printf '%s\\n'", 1)]).output().unwrap();
            String::from_utf8(shell.stdout).unwrap()
        };
        for width in 20..100 {
            let folded = fold("remedy: ", &format!("run `{command}`; or wait"), width);
            let copied = folded.split('`').nth(1).unwrap();
            assert_eq!(words(copied), words(command), "{folded}");
            let longest = folded.lines().map(str::len).max().unwrap();
            assert!(longest <= width.max("        'a long name.with  spaces' \\".len()), "{width}: {folded}");
        }
    }

    #[test]
    fn names_in_a_statement_stay_whole() {
        let text = "run `ALTER TABLE \"s\".\"a very long name\" RENAME TO \"other name\"`";
        for width in 10..80 {
            let folded = fold("", text, width);
            assert!(folded.contains("\"a very long name\"") && folded.contains("\"other name\""), "{folded}");
            assert!(!folded.contains('\\'), "{folded}");
        }
    }

    fn table(width: usize) -> String {
        let mut table = Table::new(&["table", "state", "rows"], width);
        table.row(["public.orders".to_owned(), "ready".to_owned(), "7".to_owned()]);
        table.row(["public.größe".to_owned(), "suspended".to_owned(), "12".to_owned()]);
        table.to_string()
    }

    #[test]
    fn a_table_is_as_wide_as_it_needs_to_be() {
        let wide = "table          state      rows\npublic.orders  ready      7\npublic.größe   suspended  12";
        assert_eq!((table(80), table(30)), (wide.to_owned(), wide.to_owned()));
    }

    #[test]
    fn a_row_that_does_not_fit_stands_below_its_name() {
        let below = "table\n    state      rows\npublic.orders\n    ready      7\npublic.größe\n    suspended  12";
        assert_eq!(table(29), below);
        let listed = "public.orders\n    state: ready\n    rows: 7\npublic.größe\n    state: suspended\n    rows: 12";
        assert_eq!(table(18), listed);
    }
}
