//! Many at once.

use coracle_host::Exit;
use coracle_runtime::Bundle;
use coracle_testhost::run;

use crate::support::{PIPES, bundle, command, plan, script, user, watch};

#[test]
fn ten_threads_with_twenty_containers_each() {
    run(|host| {
        let mut other = script("id -u; exit 7");
        user(&mut other, 1000, 1000, &[]);
        let good = plan(&script("echo $$ $(id -u); exit 6"));
        let (other, bad) = (plan(&other), plan(&command(&["/none"])));
        let running: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..10)
                .map(|_| {
                    scope.spawn(|| {
                        // All of one thread's run together, and end in whatever order.
                        let mut running = Vec::new();
                        for number in 0..20 {
                            let bundle = Bundle { stdio: PIPES(), ..bundle(host.dir()) };
                            match number % 5 {
                                4 => assert_eq!(bad.start(bundle).unwrap_err().command_status(), Some(127)),
                                3 => running.push((other.start(bundle).unwrap(), "1000\n", 7)),
                                _ => running.push((good.start(bundle).unwrap(), "1 0\n", 6)),
                            }
                        }
                        let count = running.len();
                        for (running, text, code) in running {
                            let output = watch(running);
                            assert_eq!(
                                (output.stdout.as_str(), output.exit),
                                (text, Exit::Code(code)),
                                "{output:?}"
                            );
                        }
                        count
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(running, 160);
        assert_eq!(host.processes(), Vec::<String>::new());
    });
}
