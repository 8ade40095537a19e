/* place.h - directories that replicas' memory lies in, all gone when the program ends. */
#ifndef MU_CONFORMANCE_PLACE_H
#define MU_CONFORMANCE_PLACE_H

/* A new directory for a group, in memory if there is a place for that. */
char *place_new(void);
/* Delete it and all that is in it. */
void place_free(char *directory);
/* Delete replica id's main file. */
void place_lose(const char *directory, unsigned id);

/*
 * Call `each`, which returns 0, with the path of every file in the directory
 * that begins with prefix; returns how many there are. each may be NULL.
 */
unsigned place_files(const char *directory, const char *prefix, int (*each)(const char *));

#endif
