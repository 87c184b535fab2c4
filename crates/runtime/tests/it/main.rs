//! Containers on a real kernel, each test in a private host.

mod cgroup;
mod confine;
mod crowd;
mod death;
mod exe;
mod exec;
mod failures;
mod held;
mod history;
mod manners;
mod places;
mod seccomp;
mod selinux;
mod service;
mod settings;
mod steps;
mod streams;
mod support;
mod terminals;
mod userns;
mod users;
mod walls;
