//! Ordinary servers run: Debian's redis, nginx and postgresql start, take load, keep what they were given, and stop when told.

use tests::fixture::servers;
use tests::{Vm, vm};

/// Waits for a server; a script that waits in vain fails.
const PRELUDE: &str = r#"
set -eu
wait_for() {
    for try in $(seq 300); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.1
    done
    echo "$* never succeeded" >&2
    return 1
}
"#;

fn server() -> Vm {
    vm().image(&servers())
        .options(["--cpus", "2", "--memory", "512m"])
}

fn script(body: &str) -> [String; 3] {
    ["sh".into(), "-c".into(), format!("{PRELUDE}{body}")]
}

#[test]
fn redis_takes_load_and_starts_again_from_its_file() {
    let body = r#"
start() {
    redis-server --daemonize yes --dir /var/lib/redis --logfile /tmp/log --pidfile /tmp/pid \
        --port 6379 --unixsocket /tmp/socket --io-threads 2 \
        --enable-debug-command local
    wait_for redis-cli -s /tmp/socket ping
}
stop() {
    redis-cli shutdown "$1"
    wait_for test ! -e /tmp/pid
}
start
redis-benchmark -q -n 1000 -c 30 -t set,get,lpush,zadd >/tmp/tcp
redis-benchmark -q -n 3000 -c 30 -P 8 -t incr -s /tmp/socket >/tmp/unix
grep -c 'requests per second' /tmp/tcp /tmp/unix
redis-cli debug populate 10000 filler 100
redis-cli set counter 41
redis-cli -s /tmp/socket incr counter
redis-cli save
# One that a child process writes.
redis-cli config set appendonly yes
wait_for sh -c 'redis-cli info persistence | grep aof_rewrite_in_progress:0'
redis-cli info persistence | grep aof_last_bgrewrite_status | tr -d '\r'
redis-cli config set appendonly no
redis-cli incr counter
stop nosave
start
redis-cli get counter
redis-cli exists filler:0 filler:9999
stop save
"#;
    let outcome = server()
        .options(["-u", "redis"])
        .command(script(body))
        .finish();
    // The second increment came after the file was written.
    outcome.prints(
        "/tmp/tcp:4\n/tmp/unix:1\nOK\nOK\n42\nOK\nOK\naof_last_bgrewrite_status:ok\nOK\n43\n42\n2\n",
    );
}

#[test]
fn nginx_serves_with_several_workers() {
    let body = r#"
mkdir -p /srv/www
head -c 1000000 /dev/urandom >/srv/www/file
cat >/tmp/nginx.conf <<END
user www-data;
worker_processes 4;
pid /tmp/pid;
error_log /tmp/errors;
events { worker_connections 256; }
http {
    sendfile on;
    log_format worker '\$pid \$status \$request';
    access_log /tmp/log worker;
    server {
        listen 127.0.0.1:80 reuseport;
        listen [::1]:80 reuseport;
        listen unix:/tmp/socket;
        root /srv/www;
        location /threads/ { alias /srv/www/; aio threads; }
        location /direct/ { alias /srv/www/; directio 4k; }
        location /behind/ { proxy_pass http://unix:/tmp/socket:/; }
    }
}
END
nginx -c /tmp/nginx.conf
wait_for test -s /tmp/pid
workers() { cat "/proc/$(cat /tmp/pid)/task/$(cat /tmp/pid)/children"; }
wait_for sh -c 'test $(cat /proc/$(cat /tmp/pid)/task/*/children | wc -w) = 4'
for worker in $(workers); do stat -c %U "/proc/$worker"; done | sort | uniq -c | tr -s ' '
fetch() {
    for number in $(seq 5); do
        wget -q -O - "http://$1" | sha256sum
    done >"/tmp/got-$2"
}
for client in 1 2 3 4; do fetch 127.0.0.1/file "$client" & done
fetch '[::1]/file' 5 &
fetch 127.0.0.1/threads/file 6 &
fetch 127.0.0.1/direct/file 7 &
fetch 127.0.0.1/behind/file 8 &
wait
sha256sum </srv/www/file >/tmp/right
sort /tmp/got-* | uniq -c | while read -r count digest; do
    [ "$digest" = "$(cat /tmp/right)" ] && echo "$count right"
done
wget -q -O - http://127.0.0.1/absent || echo "absent: $?"
# Connections were spread over the workers.
[ "$(cut -d' ' -f1 /tmp/log | sort -u | wc -l)" -gt 1 ] && echo several
nginx -c /tmp/nginx.conf -s reload
wait_for wget -q -O /dev/null http://127.0.0.1/file
nginx -c /tmp/nginx.conf -s quit
wait_for test ! -e /tmp/pid
grep -E 'emerg|alert|crit' /tmp/errors || echo stopped
"#;
    server()
        .command(script(body))
        .finish()
        .prints(" 4 www-data\n40 right\nabsent: 8\nseveral\nstopped\n");
}

#[test]
fn postgres_keeps_tables_and_queries_in_parallel() {
    let body = r#"
PATH=/usr/lib/postgresql/15/bin:$PATH
export PGDATA=/var/lib/postgresql/data PGDATABASE=postgres
initdb -A trust --no-instructions >/tmp/initdb
export PGHOST=/tmp
server() { pg_ctl -w -t 120 -l /tmp/log -o "-k /tmp" "$@" >/tmp/pg_ctl; }
query() { psql -X -A -t -q -v ON_ERROR_STOP=1 "$@"; }
server start
query -c 'create table numbers (n integer primary key, word text not null)'
query -h 127.0.0.1 <<END
begin;
insert into numbers select n, md5(n::text) from generate_series(1, 10000) n;
create index on numbers (word);
commit;
analyze numbers;
END
cat >/tmp/parallel <<END
set min_parallel_table_scan_size = 0;
set parallel_setup_cost = 0;
set parallel_tuple_cost = 0;
set max_parallel_workers_per_gather = 2;
explain (analyze, costs off, timing off, summary off) select count(*), sum(n) from numbers where word > '8';
select count(*), sum(n) from numbers;
END
query -f /tmp/parallel >/tmp/answer
grep -o 'Workers Launched: [0-9]' /tmp/answer
tail -n 1 /tmp/answer
# Several clients at once, over both kinds of sockets.
for client in 1 2 3 4; do
    query -h 127.0.0.1 -c "update numbers set n = n + 100000 where n % 4 = $client - 1" &
done
wait
query -c 'select count(*) from numbers where n > 100000'
server restart -m fast
query -c 'select min(n), max(n) from numbers'
server stop -m smart
grep -o 'database system is shut down' /tmp/log | uniq
grep -E 'PANIC|FATAL' /tmp/log || echo clean
"#;
    let outcome = server()
        .options(["-u", "postgres"])
        .command(script(body))
        .finish();
    outcome.prints(concat!(
        "Workers Launched: 2\n10000|50005000\n10000\n100001|110000\n",
        "database system is shut down\nclean\n"
    ));
}
