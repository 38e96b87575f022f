//! Embeddings of sequences of token ids, one line a sequence.
//!
//!     embed WEIGHTS ID... [/ ID...]...
//!
//! A slash parts one sequence from the next: `embed weights.bin 101 7592 102 / 101 102`

mod vlt;

fn read_id(word: &String) -> Result<i32, String> {
    word.parse()
        .map_err(|_| format!("'{}' is not a token id", word))
}

fn embed(arguments: &[String]) -> Result<(), String> {
    if arguments.len() < 2 {
        return Err("usage: embed WEIGHTS ID... [/ ID...]...".to_string());
    }
    let sequences: Vec<Vec<i32>> = arguments[1..]
        .split(|word| word == "/")
        .map(|words| words.iter().map(read_id).collect())
        .collect::<Result<_, _>>()?;
    let mut encoder = vlt::Encoder::load(&arguments[0])?;
    for vector in encoder.embed(&sequences)? {
        // The fewest digits that name one float32 exactly.
        let words: Vec<String> = vector.iter().map(f32::to_string).collect();
        println!("{}", words.join(" "));
    }
    Ok(())
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Err(reason) = embed(&arguments) {
        eprintln!("embed: {}", reason);
        std::process::exit(1);
    }
}
