// std::ofstream, std::fstream and std::ifstream on a managed file.
// Usage: cxx_stream out|app|both FILE
#include <fstream>
#include <iostream>
#include <string>
#include <thread>

static std::string content(const char *name)
{
    std::ifstream in(name);
    return std::string(std::istreambuf_iterator<char>(in), {});
}

// Flushes; what was written must not be seen before the close, if there is a shim.
static void flush(std::ostream &stream, const char *name, const std::string &before)
{
    std::string seen;

    stream << std::flush;
    std::thread([&] { seen = content(name); }).join(); // this thread sees its own writes
    if (getenv("LD_PRELOAD") != nullptr && seen != before) {
        std::cerr << "uncommitted bytes are seen\n";
        exit(1);
    }
}

int main(int, char *argv[])
{
    const std::string how = argv[1];
    const char *name = argv[2];
    const std::string before = content(name);
    std::string after;

    if (how == "out") {
        std::ofstream out(name);
        out << "first line\n";
        flush(out, name, before);
        after = "first line\n";
    } else if (how == "app") {
        std::ofstream out(name, std::ios::app);
        out << "second\n";
        flush(out, name, before);
        after = before + "second\n";
    } else {
        std::fstream both(name);
        both.seekp(6);
        both << "LINE";
        flush(both, name, before);
        after = before.substr(0, 6) + "LINE" + before.substr(10);
    }
    if (content(name) == after)
        return 0;
    std::cerr << how << ": wrong content\n";
    return 1;
}
