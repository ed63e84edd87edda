//! Reads what the micro benches print, and keeps it as a table for people and as JSON for programs.
#![allow(clippy::print_stdout)]

use std::io::{self, BufRead, stdin};

use serde_json::{Value, json};
use trem_benches::{machine, report};

/// One bench: medians of its runs.
#[derive(Debug, Default, PartialEq)]
struct Micro {
    name: String,
    seconds: f64,
    bytes_per_second: f64,
    rows_per_second: f64,
    /// Allocations and growths of one run.
    allocations: f64,
    peak_bytes: f64,
}

impl Micro {
    /// Rows of one run.
    fn rows(&self) -> f64 {
        self.rows_per_second * self.seconds
    }

    fn markdown(&self) -> String {
        format!(
            "| {} | {:.2} | {:.0} | {:.0} | {:.4} | {:.0} |\n",
            self.name,
            self.rows_per_second / 1e6,
            self.bytes_per_second / 1e6,
            1e9 / self.rows_per_second,
            self.allocations / self.rows(),
            self.peak_bytes / 1e3,
        )
    }

    fn json(&self) -> Value {
        json!({ "name": self.name, "rows": self.rows().round(), "seconds": self.seconds,
                "rows_per_second": self.rows_per_second, "bytes_per_second": self.bytes_per_second,
                "allocations_per_row": self.allocations / self.rows(), "peak_bytes": self.peak_bytes })
    }
}

/// A quantity as divan prints it: `2.39 ms`, `827.1 MB/s`, `20.9 Mitem/s`, `5127`.
fn quantity(text: &str) -> Option<f64> {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let factor = match unit {
        "" | "B" | "s" | "B/s" | "item/s" => 1.0,
        "KB" | "KB/s" | "Kitem/s" => 1e3,
        "MB" | "MB/s" | "Mitem/s" => 1e6,
        "GB" | "GB/s" | "Gitem/s" => 1e9,
        "ms" => 1e-3,
        "µs" => 1e-6,
        "ns" => 1e-9,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

/// What divan's tree says: a bench begins with its name and times, and goes on with what was counted.
fn parse(lines: impl Iterator<Item = String>) -> Vec<Micro> {
    let mut found: Vec<Micro> = Vec::new();
    let (mut group, mut counted) = (String::new(), String::new());
    for line in lines {
        let cells: Vec<&str> = line.trim_start_matches(['├', '╰', '│', '─', ' ']).split('│').map(str::trim).collect();
        let label = cells[0].split("  ").next().unwrap_or_default().trim();
        let nested = line.starts_with(['│', ' ']);
        let Some(median) = cells.get(2).copied().and_then(quantity) else {
            match label.strip_suffix(':') {
                Some(what) => what.clone_into(&mut counted),
                None if line.starts_with(['├', '╰']) => label.clone_into(&mut group),
                None => {}
            }
            continue;
        };
        let unit = cells[2].split_once(' ').map_or("", |(_, unit)| unit);
        if unit.ends_with('s') && !unit.contains('/') {
            let name = if nested { format!("{group}, {label}") } else { label.to_owned() };
            found.push(Micro { name, seconds: median, ..Micro::default() });
            counted.clear();
            continue;
        }
        let Some(bench) = found.last_mut() else { continue };
        match (counted.as_str(), unit) {
            (_, u) if u.ends_with("item/s") => bench.rows_per_second = median,
            (_, u) if u.ends_with("B/s") => bench.bytes_per_second = median,
            ("max alloc", u) if u.ends_with('B') => bench.peak_bytes = median,
            ("alloc" | "grow", "") => bench.allocations += median,
            _ => {}
        }
    }
    found
}

fn main() -> io::Result<()> {
    let found = parse(stdin().lock().lines().map_while(Result::ok));
    if found.is_empty() {
        return Err(io::Error::other("the micro benches have printed nothing that can be read"));
    }
    let mut table = "\
Medians, on one core. A row is one of 8 columns and about 120 bytes; net changes are of the mix, and of hot keys.

| | million rows/s | MB/s | ns/row | allocations/row | peak KB |
|---|--:|--:|--:|--:|--:|
"
    .to_owned();
    found.iter().for_each(|bench| table.push_str(&bench.markdown()));
    let benches: Vec<Value> = found.iter().map(Micro::json).collect();
    let mut facts = machine::facts();
    // Their own.
    facts.retain(|(name, _)| *name != machine::LOAD);
    println!("{}", report::keep("micro", &facts, &table, json!({ "benches": benches }))?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_medians_are_read() {
        let text = "\
micro                    fastest       │ slowest       │ median        │ mean          │ samples │ iters
├─ net_changes                         │               │               │               │         │
│  ├─ false              4.962 ms      │ 5.914 ms      │ 5.286 ms      │ 5.308 ms      │ 100     │ 100
│  │                     1.364 GB/s    │ 1.144 GB/s    │ 1.28 GB/s     │ 1.275 GB/s    │         │
│  │                     10.07 Mitem/s │ 8.454 Mitem/s │ 9.458 Mitem/s │ 9.418 Mitem/s │         │
│  │                     max alloc:    │               │               │               │         │
│  │                       10          │ 10            │ 10            │ 10            │         │
│  │                       5.733 MB    │ 5.733 MB      │ 5.733 MB      │ 5.733 MB      │         │
│  │                     alloc:        │               │               │               │         │
│  │                       34          │ 34            │ 34            │ 34            │         │
│  │                       4.832 MB    │ 4.832 MB      │ 4.832 MB      │ 4.832 MB      │         │
│  │                     grow:         │               │               │               │         │
│  │                       51          │ 51            │ 51            │ 51            │         │
╰─ pgoutput_to_arrow     777.7 µs      │ 8.736 ms      │ 8.1 ms        │ 8.13 ms       │ 100     │ 100
                         861.4 MB/s    │ 766.8 MB/s    │ 827.1 MB/s    │ 824 MB/s      │         │
                         6.428 Mitem/s │ 5.722 Mitem/s │ 6.172 Mitem/s │ 6.149 Mitem/s │         │
";
        let found = parse(text.lines().map(str::to_owned));
        assert_eq!(found.len(), 2, "{found:?}");
        let first = &found[0];
        assert_eq!((first.name.as_str(), first.seconds), ("net_changes, false", 5.286e-3));
        assert_eq!((first.rows_per_second, first.bytes_per_second), (9.458e6, 1.28e9));
        assert_eq!((first.allocations, first.peak_bytes), (85.0, 5.733e6));
        assert_eq!((found[1].name.as_str(), found[1].rows_per_second), ("pgoutput_to_arrow", 6.172e6));
    }
}
