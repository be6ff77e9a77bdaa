// std::ofstream, std::fstream and std::ifstream on a managed file. Usage: cxx_stream FILE
#include <fstream>
#include <iostream>
#include <string>

static int fail(const char *what)
{
    std::cerr << what << "\n";
    return 1;
}

static std::string content(const char *name)
{
    std::ifstream in(name);
    return std::string(std::istreambuf_iterator<char>(in), {});
}

int main(int, char *argv[])
{
    const char *name = argv[1];
    const std::string before = content(name);
    {
        std::ofstream out(name);
        out << "first line\n" << std::flush;
        if (getenv("LD_PRELOAD") != nullptr && content(name) != before)
            return fail("uncommitted bytes are seen");
    }
    if (content(name) != "first line\n")
        return fail("ofstream");
    {
        std::ofstream out(name, std::ios::app);
        out << "second\n";
    }
    if (content(name) != "first line\nsecond\n")
        return fail("app");
    {
        std::fstream both(name);
        both.seekp(6);
        both << "LINE";
    }
    if (content(name) != "first LINE\nsecond\n")
        return fail("fstream");
    return 0;
}
