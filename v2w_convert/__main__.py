from v2w_convert.cli import main

main()
