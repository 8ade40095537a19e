/* dev.h - `muproxy dev`: a whole group on this machine, with backends of its own. */
#ifndef MUPROXY_DEV_H
#define MUPROXY_DEV_H

/* argv[0] is "dev". Returns the program's exit code. */
int dev_main(int argc, char **argv);

#endif
