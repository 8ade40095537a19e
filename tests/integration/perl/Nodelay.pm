# What memcached's own tests write goes out at once (perl -MNodelay): they write in pieces of
# 8 KiB, which Nagle's algorithm holds back by 40 ms each, whatever the server.
package Nodelay;
use strict;
use warnings;
use IO::Socket::INET;
use Socket qw(IPPROTO_TCP TCP_NODELAY);

my $configure = \&IO::Socket::INET::configure;
no warnings 'redefine';
*IO::Socket::INET::configure = sub {
    my $socket = $configure->(@_);
    setsockopt($socket, IPPROTO_TCP, TCP_NODELAY, 1) if $socket;
    return $socket;
};
1;
