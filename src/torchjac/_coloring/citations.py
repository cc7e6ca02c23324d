"""Citations of the papers behind the algorithms, as BibTeX; the file of each algorithm names its paper."""

from __future__ import annotations

BIBTEX = {
    "curtis1974": """@article{curtis1974,
  author  = {Curtis, A. R. and Powell, M. J. D. and Reid, J. K.},
  title   = {On the Estimation of Sparse {J}acobian Matrices},
  journal = {IMA Journal of Applied Mathematics},
  volume  = {13}, number = {1}, pages = {117--119}, year = {1974},
  doi     = {10.1093/imamat/13.1.117}
}""",
    "gebremedhin2005": """@article{gebremedhin2005,
  author  = {Gebremedhin, Assefaw Hadish and Manne, Fredrik and Pothen, Alex},
  title   = {What Color Is Your {J}acobian? {G}raph Coloring for Computing Derivatives},
  journal = {SIAM Review},
  volume  = {47}, number = {4}, pages = {629--705}, year = {2005},
  doi     = {10.1137/S0036144504444711}
}""",
    "gebremedhin2007": """@article{gebremedhin2007,
  author  = {Gebremedhin, Assefaw H. and Tarafdar, Arijit and Manne, Fredrik and Pothen, Alex},
  title   = {New Acyclic and Star Coloring Algorithms with Application to Computing {H}essians},
  journal = {SIAM Journal on Scientific Computing},
  volume  = {29}, number = {3}, pages = {1042--1072}, year = {2007},
  doi     = {10.1137/050639879}
}""",
    "gebremedhin2013": """@article{gebremedhin2013,
  author  = {Gebremedhin, Assefaw H. and Nguyen, Duc and Patwary, Md. Mostofa Ali and Pothen, Alex},
  title   = {{ColPack}: Software for Graph Coloring and Related Problems in Scientific Computing},
  journal = {ACM Transactions on Mathematical Software},
  volume  = {40}, number = {1}, pages = {1:1--1:31}, year = {2013},
  doi     = {10.1145/2513109.2513110}
}""",
    "coleman1998": """@article{coleman1998,
  author  = {Coleman, Thomas F. and Verma, Arun},
  title   = {The Efficient Computation of Sparse {J}acobian Matrices Using Automatic Differentiation},
  journal = {SIAM Journal on Scientific Computing},
  volume  = {19}, number = {4}, pages = {1210--1233}, year = {1998},
  doi     = {10.1137/S1064827595295349}
}""",
    "montoison2025": """@misc{montoison2025,
  author = {Montoison, Alexis and Dalle, Guillaume and Gebremedhin, Assefaw},
  title  = {Revisiting Sparse Matrix Coloring and Bicoloring},
  year   = {2025}, eprint = {2505.07308}, archivePrefix = {arXiv}
}""",
    "welsh1967": """@article{welsh1967,
  author  = {Welsh, D. J. A. and Powell, M. B.},
  title   = {An Upper Bound for the Chromatic Number of a Graph and Its Application to Timetabling Problems},
  journal = {The Computer Journal},
  volume  = {10}, number = {1}, pages = {85--86}, year = {1967},
  doi     = {10.1093/comjnl/10.1.85}
}""",
    "matula1983": """@article{matula1983,
  author  = {Matula, David W. and Beck, Leland L.},
  title   = {Smallest-Last Ordering and Clustering and Graph Coloring Algorithms},
  journal = {Journal of the ACM},
  volume  = {30}, number = {3}, pages = {417--427}, year = {1983},
  doi     = {10.1145/2402.322385}
}""",
    "coleman1983": """@article{coleman1983,
  author  = {Coleman, Thomas F. and Mor{\\'e}, Jorge J.},
  title   = {Estimation of Sparse {J}acobian Matrices and Graph Coloring Problems},
  journal = {SIAM Journal on Numerical Analysis},
  volume  = {20}, number = {1}, pages = {187--209}, year = {1983},
  doi     = {10.1137/0720013}
}""",
    "brelaz1979": """@article{brelaz1979,
  author  = {Br{\\'e}laz, Daniel},
  title   = {New Methods to Color the Vertices of a Graph},
  journal = {Communications of the ACM},
  volume  = {22}, number = {4}, pages = {251--256}, year = {1979},
  doi     = {10.1145/359094.359101}
}""",
    "cuthill1969": """@inproceedings{cuthill1969,
  author    = {Cuthill, E. and McKee, J.},
  title     = {Reducing the Bandwidth of Sparse Symmetric Matrices},
  booktitle = {Proceedings of the 24th National Conference of the ACM},
  pages     = {157--172}, year = {1969},
  doi       = {10.1145/800195.805928}
}""",
    "culberson1992": """@techreport{culberson1992,
  author      = {Culberson, Joseph C.},
  title       = {Iterated Greedy Graph Coloring and the Difficulty Landscape},
  institution = {University of Alberta, Department of Computing Science},
  number      = {TR 92-07}, year = {1992}
}""",
    "goldfarb1984": """@article{goldfarb1984,
  author  = {Goldfarb, Donald and Toint, Philippe L.},
  title   = {Optimal Estimation of {J}acobian and {H}essian Matrices That Arise in Finite Difference Calculations},
  journal = {Mathematics of Computation},
  volume  = {43}, number = {167}, pages = {69--88}, year = {1984}
}""",
}
"""The BibTeX entry of each paper, by its first author and year."""
