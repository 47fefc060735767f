#!/bin/sh
# Starts servers that tests need, on the loopback interface of their sandbox, with new data. Run as a user who is neither
# root nor, in a container, the job's.
#
#     sh services.sh HERE MADE surely|maybe|never|stop 'KIND PORT USER PASSWORD ROOTS DATABASES'...
#
# `-` stands for an empty word, commas between databases; ROOTS is the password of MySQL's root. The data are copied from
# MADE, where an earlier call made them that started nothing (`never`), else made. HERE/told: for each a line KIND and
# its version, or KIND, `failed:` and why; fails where one failed that surely starts. `stop`: ends those that run in HERE,
# whose folder is then one that MADE can name; fails where one does not end. Sockets are where clients look for
# them, in /run/postgresql and /run/mysqld, which must be there. Nothing is flushed to disk: no test outlives its data.
# Needs no more than sh and what busybox has.
here=$1 made=$2 how=$3
shift 3
umask 022
export LC_ALL=C TMPDIR=$here
PATH=$PATH:/usr/sbin:/sbin
for folder in $(ls -d /usr/lib/postgresql/*/bin /usr/libexec/postgresql* /usr/pgsql-*/bin 2>/dev/null | sort -V); do
    PATH=$folder:$PATH # the newest comes first
done

has() {
    command -v "$1" >/dev/null 2>&1
}

first_of() { # the first of these programs that is there
    for program in "$@"; do
        has "$program" && echo "$program" && return
    done
    return 1
}

until_it() { # answers to this command, for a minute
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || return 1
        sleep 0.1
    done
}

make_postgres() {
    has initdb || return 1
    for locale in C.UTF-8 C; do
        initdb -D "$1" -U "$user" --auth=trust --encoding=UTF8 --locale=$locale --no-sync >"$1.log" 2>&1 && break
        rm -rf "$1"
    done
    cat >>"$1/postgresql.conf" <<END || return 1
listen_addresses = '*'
port = $port
max_connections = 100
shared_buffers = 16MB
fsync = off
synchronous_commit = off
full_page_writes = off
max_wal_size = 64MB
min_wal_size = 32MB
autovacuum = off
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
END
    for database in $(echo "$databases" | tr , ' '); do
        [ "$database" = postgres ] || echo "CREATE DATABASE \"$database\";"
    done | postgres --single -D "$1" postgres >>"$1.log" 2>&1
}

start_postgres() {
    pg_ctl -D "$1" -w -t 60 -s -l "$1.log" -o "-k /run/postgresql" start >>"$1.log" 2>&1 || return 1
    postgres --version | sed 's/[^(]*(\([^)]*\)) \([^ ]*\).*/\1 \2/'
}

grant() { # all to this user of $host, with this password
    echo "CREATE USER IF NOT EXISTS '$1'@'$host' IDENTIFIED BY '$2';"
    echo "ALTER USER '$1'@'$host' IDENTIFIED BY '$2';"
    echo "GRANT ALL ON *.* TO '$1'@'$host' WITH GRANT OPTION;"
}

stop_postgres() {
    pg_ctl -D "$1" -m fast -w -t 60 stop
}

make_mysql() {
    mkdir -p "$1" || return 1
    if install=$(first_of mariadb-install-db mysql_install_db); then
        "$install" --no-defaults --datadir="$1" --auth-root-authentication-method=normal --skip-test-db \
            --skip-name-resolve --innodb-log-file-size=4M >"$1.log" 2>&1
    else
        has mysqld && mysqld --no-defaults --initialize-insecure --datadir="$1" --innodb-redo-log-capacity=8M >"$1.log" 2>&1
    fi || return 1
    # Each statement in a line of its own. Whom its image makes: root with the password, and a user with the database.
    for database in $(echo "$databases" | tr , ' '); do
        echo "CREATE DATABASE IF NOT EXISTS \`$database\`;"
    done >"$1/init.sql"
    for host in localhost 127.0.0.1 ::1 %; do # the first three it may have made itself
        grant root "$roots"
        [ "$user" = root ] || grant "$user" "$password"
    done >>"$1/init.sql"
}

start_mysql() {
    server=$(first_of mariadbd mysqld) && admin=$(first_of mariadb-admin mysqladmin) || return 1
    "$server" --no-defaults --datadir="$1" --init-file="$1/init.sql" --port="$port" --bind-address='*' \
        --socket="/run/mysqld/mysqld.sock" --pid-file="$1/mysqld.pid" --skip-log-bin --skip-name-resolve \
        --character-set-server=utf8mb4 --innodb-buffer-pool-size=32M --innodb-flush-log-at-trx-commit=0 \
        --innodb-use-native-aio=0 --tmpdir="$1" >"$1.log" 2>&1 </dev/null &
    until_it "$admin" --no-defaults --socket="/run/mysqld/mysqld.sock" ping || return 1 # also where it refuses us
    "$server" --version | sed 's/.*Ver \([0-9.]*\)-MariaDB.*/MariaDB \1/; s/.*Ver \([0-9.]*\).*/MySQL \1/'
}

stop_mysql() {
    ended=$(cat "$1/mysqld.pid") && kill "$ended" && until_it gone "$ended"
}

gone() {
    ! kill -0 "$1"
}

make_redis() {
    first_of redis-server valkey-server >/dev/null && mkdir -p "$1"
}

start_redis() {
    server=$(first_of redis-server valkey-server) && client=$(first_of redis-cli valkey-cli) || return 1
    "$server" --port "$port" --bind 127.0.0.1 -::1 --save '' --appendonly no --dir "$1" --daemonize yes \
        --protected-mode no ${password:+--requirepass "$password"} >"$1.log" 2>&1 || return 1
    until_it "$client" -p "$port" ping || return 1
    "$server" --version | sed 's/.*v=\([0-9.]*\).*/\1/; s/^/Redis /'
}

stop_redis() { # writes its data, which the next one reads
    client=$(first_of redis-cli valkey-cli) || return 1
    REDISCLI_AUTH=$password "$client" -p "$port" shutdown save
    until_it lacks "$client" -p "$port" ping
}

lacks() {
    ! "$@"
}

make_memcached() {
    has memcached && mkdir -p "$1"
}

start_memcached() {
    memcached -d -l 127.0.0.1 -p "$port" -m 64 >"$1.log" 2>&1 && memcached -V | sed 's/^m/M/'
}

stop_memcached() { # which keeps nothing
    :
}

rabbit() { # where the server's own start script is: the one in /usr/sbin wants to be root's or rabbitmq's
    for script in /usr/lib/rabbitmq/bin/rabbitmq-server /usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server; do
        [ -x "$script" ] && echo "$script" && return
    done
    return 1
}

make_rabbitmq() {
    rabbit >/dev/null && mkdir -p "$1" || return 1
    vhost=${databases:-/}
    cat >"$1/advanced.config" <<END
[{rabbit, [
  {tcp_listeners, [$port]}, {loopback_users, []}, {disk_free_limit, 1000000},
  {vm_memory_high_watermark, {absolute, 268435456}},
  {default_user, <<"$user">>}, {default_pass, <<"${password:-guest}">>}, {default_vhost, <<"${vhost%%,*}">>}
]}].
END
    echo '[].' >"$1/plugins"
}

start_rabbitmq() { # Erlang's schedulers don't spin while they wait
    HOME=$1 RABBITMQ_MNESIA_BASE=$1/mnesia RABBITMQ_LOG_BASE=$1/log RABBITMQ_PID_FILE=$1/pid RABBITMQ_NODENAME=it@localhost \
        RABBITMQ_ENABLED_PLUGINS_FILE=$1/plugins RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_CONFIG_FILE=$1/none \
        RABBITMQ_ADVANCED_CONFIG_FILE=$1/advanced.config \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none" \
        "$(rabbit)" >"$1.log" 2>&1 </dev/null &
    until_it grep -q 'completed with' "$1.log" || return 1
    sed -n 's/.*\(RabbitMQ [0-9.]*\).*/\1/p' "$1.log" | head -n 1
}

stop_rabbitmq() {
    ended=$(cat "$1/pid") && kill "$ended" && until_it gone "$ended"
}

said_of() { # KIND: what it came to
    if [ -e "$made/whole" ] && [ -d "$made/$1" ]; then
        cp -a "$made/$1" "$here/$1"
    else
        "make_$1" "$here/$1"
    fi
    if [ $? != 0 ]; then
        [ -s "$here/$1.log" ] || echo "it is not installed" >"$here/$1.log"
    elif [ "$how" = never ]; then
        rm -f "$here/$1.log"
        return
    elif version=$("start_$1" "$here/$1" 2>/dev/null); then
        echo "$version"
        return
    fi
    said=$(grep -E 'FATAL|ERROR|[Ee]rror:' "$here/$1.log" || tail -n 2 "$here/$1.log")
    [ "$how" != never ] || rm -rf "${here:?}/$1" # so that the next call says why
    echo "failed: $(echo "$said" | tail -n 2 | tr '\n' ' ' | cut -c1-300)"
}

printf '%s\n' "$@" | while read -r kind port user password roots databases; do
    [ "$password" != - ] || password=
    [ "$roots" != - ] || roots=
    [ "$databases" != - ] || databases=
    if [ "$how" = stop ]; then
        "stop_$kind" "$here/$kind" >/dev/null 2>&1 </dev/null || exit 1
    else
        echo "$kind $(said_of "$kind" </dev/null)"
    fi
done >"$here/told" || exit 1
if [ "$how" = stop ]; then
    rm -f "$here"/*.log "$here/told"
    : >"$here/whole"
    exit
fi
[ "$how" != never ] || : >"$here/whole"
[ "$how" != surely ] || ! grep -q '^[a-z]* failed: ' "$here/told"
