# machine: --timeout 400
# programs: build/muproxy build/muctl redis-server redis-cli memcached
# Runs in the guest: a group of three replicas over verbs, each with a real
# redis-server and memcached, on one RDMA device. Writes through every replica
# while the leader is killed, and while the next one is stopped: what was
# acknowledged is there at the end, at every replica. Then a fourth is made a member,
# and a fifth in the place of one that is killed: all of it is there, too.
set -u
key=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
writes=${WRITES-100}

fail() {
	echo "FAILED: $*"
	tail -n 15 /tmp/replica-*.log
	exit 1
}

# wait_for SECONDS WHAT COMMAND...: until it succeeds.
wait_for() {
	local deadline=$(($(date +%s) + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ "$(date +%s)" -lt "$deadline" ] || fail "waited in vain for $what"
		usleep 100000
	done
}

# place_of ID: where it meets the others.
place_of() { echo 10.77.0.1:740$1; }

# The members that the group began with.
first_members() {
	for member in 1 2 3; do
		printf '[member %s]\naddress = %s\n' $member "$(place_of $member)"
	done
}

# write_configuration ID [ASKS]: of a replica that joins by asking another, or was there from the beginning.
# All times are those of an emulated machine.
write_configuration() {
	local id=$1 join="" members

	members=$(first_members)
	if [ $# -gt 1 ]; then
		join="join = $(place_of $2)"
		members=$(printf '[member %s]\naddress = %s\n' $id "$(place_of $id)")
	fi
	cat >/tmp/replica-$id.conf <<END
[replica]
id = $id
group = vm
key = $key
fabric = ${FABRIC-verbs}
memory-dir = /dev/shm
ring-size = 4M
state-file = /tmp/members-$id
$join
$members
[redis]
listen = 127.0.0.1:710$id
backend = unix:/run/redis-$id.sock
[memcached]
listen = 127.0.0.1:720$id
backend = unix:/run/memcached-$id.sock
[admin]
listen = 127.0.0.1:730$id
[timing]
tick = 50ms
op-timeout = 1s
data-stall = 20s
takeover-timeout = 3s
backend-timeout = 20s
hold-timeout = 60s
unknown-timeout = 60s
END
}

start_servers() {
	redis-server --port 0 --unixsocket /run/redis-$1.sock --databases 17 --save '' \
		--repl-diskless-sync-delay 0 --dir /tmp --daemonize no >/tmp/redis-$1.log 2>&1 &
	memcached -u root -m 32 -s /run/memcached-$1.sock >/tmp/memcached-$1.log 2>&1 &
}

start_replica() {
	muproxy -c /tmp/replica-$1.conf 2>>/tmp/replica-$1.log &
	eval "pid_$1=$!"
}

pid_of() { eval "echo \$pid_$1"; }

# ask ID COMMAND...: the reply, of a client of replica ID.
ask() {
	local id=$1
	shift
	timeout 60 redis-cli -p 710$id "$@"
}

is_ok() { [ "$(ask "$@")" = OK ]; }
is_equal() {
	local want=$1
	shift
	[ "$(ask "$@")" = "$want" ]
}

# leader_seen_by ID
leader_seen_by() {
	wget -q -O - http://127.0.0.1:730$1/status | grep -o '"leader": *[0-9]*' | head -1 | tr -dc 0-9
}
has_leader_other_than() {
	local leader
	leader=$(leader_seen_by "$1") && [ "${leader:-0}" != 0 ] && [ "$leader" != "$2" ]
}

# memcached_says ID 'COMMAND\r\n...' WORDS
memcached_says() {
	printf "$2" | timeout 20 nc -w 5 127.0.0.1 720$1 | grep -q "$3"
}

# write_through ID ROUND: one connection; a line of /tmp/acked for each write that was answered OK.
write_through() {
	local n=0
	while [ $n -lt "$writes" ]; do
		n=$((n + 1))
		echo "SET $2:$1:$n $n"
	done | redis-cli -p 710$1 >/tmp/replies-$2-$1 2>&1
	# Answers come in order, one a line; an error has its own words.
	awk -v round="$2" -v id="$1" 'NF { n++ } $0 == "OK" { print round ":" id ":" n, n }' \
		/tmp/replies-$2-$1 >/tmp/acked-$2-$1
}

# Every acknowledged write is what this replica answers.
check_at() {
	local id=$1 round=$2 file
	for file in /tmp/acked-$round-*; do
		[ -s "$file" ] || fail "$file: nothing was acknowledged"
		cut -d' ' -f1 "$file" | sed 's/^/GET /' | redis-cli -p 710$id >/tmp/got
		cut -d' ' -f2 "$file" | cmp -s - /tmp/got ||
			fail "replica $id has lost some of what $file says was acknowledged"
	done
}

# acked ROUND: how many writes.
acked() { cat /tmp/acked-$1-* | wc -l; }
some_replies() { [ "$(cat /tmp/replies-$1-* 2>/dev/null | wc -l)" -gt 20 ]; }

# disturbed_round NAME SIGNAL: writers at the two followers while the leader gets the signal.
disturbed_round() {
	local round=$1 leader others="" id writers=""

	leader=$(leader_seen_by 1)
	for id in 1 2 3; do
		[ $id = "$leader" ] || others="$others $id"
	done
	for id in $others; do
		write_through $id "$round" &
		writers="$writers $!"
	done
	wait_for 60 "some writes" some_replies "$round"
	kill -"$2" "$(pid_of "$leader")"
	echo "# $round: replica $leader led, and got SIG$2"
	for id in $others; do
		wait_for 90 "another leader" has_leader_other_than $id "$leader"
	done
	wait $writers
	[ "$(acked "$round")" -gt $writes ] || fail "only $(acked "$round") writes were acknowledged"
	for id in $others; do
		check_at $id "$round"
	done
	victim=$leader
}

# status_at ID WORDS: whether a line of that replica's status has them.
status_at() { muctl --admin 127.0.0.1:730$1 status | grep -q "$2"; }

# waits_at_leader ID ASKS: whether the leader, whom replica ASKS knows, could add it.
waits_at_leader() {
	leader=$(leader_seen_by "$2") && [ "${leader:-0}" != 0 ] && status_at "$leader" "^ *$1 .*waiting"
}

# newcomer ID ASKS: start it; returns once the leader, in $leader, could add it.
newcomer() {
	start_servers $1
	wait_for 60 "redis-server $1" redis-cli -s /run/redis-$1.sock ping
	write_configuration $1 "$2"
	start_replica $1
	wait_for 90 "replica $1 to be known" waits_at_leader $1 "$2"
}

# change WORDS: muctl says them to whoever leads.
change() {
	local admins="" id
	for id in 1 2 3 4 5; do
		admins="$admins --admin 127.0.0.1:730$id"
	done
	muctl $admins "$@" || fail "muctl $*"
}

# Whether replica ID, by itself, has all that was acknowledged.
check_newcomer() {
	wait_for 60 "replica $1 to take a write" is_ok $1 SET "from:$1" $1
	check_at $1 killed
	check_at $1 stopped
	memcached_says $1 "get mc:1\r\n" "^1" || fail "replica $1: no mc:1"
}

muproxy --list-devices | tee /tmp/devices
grep -q '^\* rxe0 ' /tmp/devices || fail "the device is not chosen"
for id in 1 2 3; do
	start_servers $id
done
for id in 1 2 3; do
	wait_for 60 "redis-server $id" redis-cli -s /run/redis-$id.sock ping
	write_configuration $id
	start_replica $id
done

for id in 1 2 3; do
	wait_for 90 "replica $id to take a write" is_ok $id SET from:$id $id
	wait_for 60 "memcached by replica $id" \
		memcached_says $id "set mc:$id 0 0 1\r\n$id\r\n" STORED
done
for id in 1 2 3; do
	for from in 1 2 3; do
		is_equal $from $id GET from:$from || fail "replica $id does not read from:$from"
		memcached_says $id "get mc:$from\r\n" "^$from" || fail "replica $id: no mc:$from"
	done
done
echo "# reads and writes through every replica: $(date +%T)"

disturbed_round killed KILL
start_replica $victim
wait_for 90 "replica $victim to be back" is_ok $victim SET back yes
check_at $victim killed
echo "# killed: $(acked killed) acknowledged writes are at every replica: $(date +%T)"

disturbed_round stopped STOP
kill -CONT "$(pid_of $victim)"
wait_for 90 "replica $victim to be back" is_ok $victim SET back again
check_at $victim stopped
echo "# stopped: $(acked stopped) acknowledged writes are at every replica: $(date +%T)"

newcomer 4 1
change add "$(place_of 4)"
check_newcomer 4
echo "# replica 4 is a member, with all of it: $(date +%T)"

dead=$((leader % 3 + 1))
kill -KILL "$(pid_of $dead)"
newcomer 5 4
change replace $dead "$(place_of 5)"
check_newcomer 5
for id in 1 2 3 4 5; do
	[ $id = $dead ] && continue
	is_equal 5 $id GET from:5 || fail "replica $id does not read from:5"
done
echo "# replica 5 took replica $dead's place: $(date +%T)"

for id in 1 2 3 4 5; do
	[ $id = $dead ] && continue
	kill -TERM "$(pid_of $id)"
	wait "$(pid_of $id)" || fail "replica $id did not end well"
done
