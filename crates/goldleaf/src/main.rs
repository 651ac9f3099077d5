//! The `goldleaf` program.
use goldleaf_host::Progress;
use goldleaf_player::desktop::{self, Event, Listener, StartOptions};
use goldleaf_player::{Home, livepc};
struct L;
impl Progress for L {
    fn at(&self, what: &str, done: u64, total: u64) {
        if done == 0 { eprintln!("  {what} {done}/{total}") }
    }
}
impl Listener for L {
    fn event(&self, event: &Event) { eprintln!("  {event:?}") }
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args[1] == "worker" {
        let count = args[2].parse().unwrap();
        if args.len() > 3 {
            let rest: Vec<std::ffi::OsString> = args[4..].iter().map(Into::into).collect();
            eprintln!("{}", goldleaf_worker::exec_tool(count, &args[3], &rest));
            std::process::exit(1);
        }
        if let Err(e) = goldleaf_worker::serve(count) { eprintln!("{e}"); std::process::exit(1) }
        return;
    }
    if let Err(e) = run(&args[1..]) { eprintln!("error: {e}"); std::process::exit(1) }
}
fn run(args: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let launcher = goldleaf_worker::Launcher::new(std::env::current_exe()?, vec!["worker".into()]);
    let home = Home::open(std::path::Path::new(&std::env::var("GOLDLEAF_HOME")?), launcher)?;
    let a: Vec<&str> = args.iter().map(String::as_str).collect();
    match a[..] {
        ["import", file, name] => {
            let options = goldleaf_image::ImportOptions { name: name.into(), grow_to: None };
            let r = goldleaf_image::import(&home.images()?, &home.launcher, home.clock.as_ref(), file.as_ref(), &options, &L)?;
            println!("{r:#?}");
        }
        ["livepc", name, image] => {
            let new = livepc::NewLivePc { name: name.into(), image: image.into(), layers: vec![], memory_mib: 1024, cpus: 2, rules: None };
            livepc::create(&home, new)?;
            desktop::create(&home, name, name)?;
        }
        ["start", name] => { println!("{:?}", desktop::start(&home, name, &StartOptions { headless: true, ..Default::default() }, &L)?); }
        ["changes", name] => { println!("{}", serde_json::to_string_pretty(&desktop::changes(&home, name, &L)?)?); }
        ["stop", name] => { println!("{:?}", desktop::stop(&home, name, false)?); }
        ["status", name] => { println!("{:#?}", desktop::status(&home, name)?); }
        _ => eprintln!("?"),
    }
    Ok(())
}
