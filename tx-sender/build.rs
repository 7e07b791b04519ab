fn main() {
    // The migrations are embedded: a new file must be compiled in.
    println!("cargo:rerun-if-changed=migrations");
}
