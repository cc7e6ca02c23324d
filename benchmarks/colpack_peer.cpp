// ColPack behind one C function, for benchmarks/coloring.py: pattern as CSR in, number of colors and seconds out.
//   g++ -O2 -shared -fPIC -fopenmp -o libcolpack_peer.so colpack_peer.cpp -lColPack   (Debian: libcolpack-dev)
#include <chrono>
#include <string>
#include <vector>

#include "ColPackHeaders.h"

static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// seconds[0]: building the graph; seconds[1]: ordering and coloring.
extern "C" int colpack_color(int m, int n, const int *indptr, const int *indices, const char *kind, const char *order,
                             const char *variant, double *seconds) {
    std::vector<std::vector<unsigned>> rows(m);
    std::vector<unsigned *> pointers(m);
    for (int i = 0; i < m; i++) {
        rows[i].push_back(indptr[i + 1] - indptr[i]);
        rows[i].insert(rows[i].end(), indices + indptr[i], indices + indptr[i + 1]);
        pointers[i] = rows[i].data();
    }
    double start = now(), built;
    std::string what(kind);
    int colors;
    if (what == "partial") {
        ColPack::BipartiteGraphPartialColoringInterface graph(SRC_WAIT);
        graph.BuildBPGraphFromRowCompressedFormat(pointers.data(), m, n);
        built = now();
        graph.PartialDistanceTwoColoring(order, variant);
        colors = graph.GetVertexColorCount();
    } else if (what == "bicoloring") {
        ColPack::BipartiteGraphBicoloringInterface graph(SRC_WAIT);
        graph.BuildBPGraphFromRowCompressedFormat(pointers.data(), m, n);
        built = now();
        graph.Bicoloring(order, variant);
        colors = graph.GetVertexColorCount();
    } else {
        ColPack::GraphColoringInterface graph(SRC_WAIT);
        graph.BuildGraphFromRowCompressedFormat(pointers.data(), m);
        built = now();
        graph.Coloring(order, variant);
        colors = graph.GetVertexColorCount();
    }
    seconds[0] = built - start;
    seconds[1] = now() - built;
    return colors;
}
