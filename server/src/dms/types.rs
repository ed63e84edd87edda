//! Types of DMS under our names.

use serde_json::Value;

use super::mapping::DataType;

/// A type of DMS under our name, without lengths. Numbers behind `int` and `uint` are bytes.
pub fn type_name(name: &str) -> Result<String, String> {
    let name = name.to_lowercase();
    Ok(match name.as_str() {
        "string" | "wstring" | "clob" | "nclob" => "text",
        "bytes" | "blob" => "varbinary",
        "int1" => "int8",
        "int2" => "int16",
        "int4" => "int32",
        "int8" => "int64",
        "uint1" => "uint8",
        "uint2" => "uint16",
        "uint4" => "uint32",
        "uint8" => "uint64",
        "numeric" => "decimal",
        "real4" => "float32",
        "real8" => "float64",
        "boolean" => "bool",
        "date" | "time" => &name,
        "datetime" => "timestamp",
        _ => return Err(format!("the type {name:?} is not known")),
    }
    .to_owned())
}

/// A type of DMS under our name.
pub fn type_of(ty: &DataType) -> Result<String, String> {
    let number = |value: &Option<Value>| {
        let value = value.as_ref()?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    };
    let name = type_name(&ty.r#type)?;
    Ok(match (name.as_str(), number(&ty.length), number(&ty.precision)) {
        ("text", Some(length), _) if length > 0 => format!("text({length})"),
        ("decimal", _, Some(precision)) if precision > 0 => {
            format!("decimal({precision},{})", number(&ty.scale).unwrap_or(0))
        }
        _ => name,
    })
}
