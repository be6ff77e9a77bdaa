/* A set-user-id program that takes over its rights for good and runs another one: usage: elevated
 * PROGRAM [ARGUMENT]... */
#include <stdio.h>
#include <unistd.h>

int main(int argc, char *argv[])
{
    uid_t user = geteuid();

    if (argc < 2 || setresuid(user, user, user) != 0) {
        perror("elevated");
        return 2;
    }
    execv(argv[1], argv + 1);
    perror(argv[1]);
    return 127;
}
